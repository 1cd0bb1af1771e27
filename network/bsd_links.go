package network

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// plug makes the jail that holds the container's network stack, with a leg in each bridge, and default routes.
func (h *bsdHost) plug(id brig.ID, legs []leg, to defaults) error {
	jail := h.jail(id)
	if err := h.release(id); err != nil { // one that is left over has others' links
		return err
	}
	if _, err := h.do(h.makeJail(id, h.shared)...); err != nil {
		return errs.Wrap(err, "make jail %s", jail)
	}
	fault.Point("netns.bound")
	if h.shared {
		return h.occupy(id, legs)
	}
	if _, err := h.do(inJail(jail, loopbackUp())...); err != nil {
		return errs.Wrap(err, "bring up lo0 in jail %s", jail)
	}
	if _, err := h.do(inJail(jail, openPorts())...); err != nil {
		return errs.Wrap(err, "let everybody in jail %s have ports below 1024", jail)
	}
	return h.legs(id, legs, to, true)
}

// add gives a jail that is there further legs, and makes its default routes what they shall be.
func (h *bsdHost) add(id brig.ID, legs []leg, to defaults) error {
	if h.shared {
		return h.occupy(id, legs)
	}
	return h.legs(id, legs, to, false)
}

// reroute makes the default routes of a jail what they shall be.
func (h *bsdHost) reroute(id brig.ID, to defaults) error {
	if h.shared {
		return nil // all routes are the host's
	}
	return h.legs(id, nil, to, false)
}

func (h *bsdHost) legs(id brig.ID, legs []leg, to defaults, fresh bool) error {
	has6 := len(legs) > 0 && h.hasIPv6()
	for i := range legs {
		if err := h.link(id, &legs[i], has6); err != nil {
			return err
		}
		fault.Point("veth.added")
	}
	return h.setRoutes(h.jail(id), to, fresh)
}

// link makes an epair from the bridge into the container's jail. One that can't be finished is removed.
func (h *bsdHost) link(id brig.ID, l *leg, has6 bool) (err error) {
	linkLocal, err := checkLeg(l)
	if err != nil {
		return err
	}
	jail := h.jail(id)
	out, err := h.do(h.makeEpair(id, &l.Endpoint)...)
	if err != nil {
		return errs.Wrap(err, "make an epair for %s", h.vethName(l.EndpointID))
	}
	a, b, err := parseCreated(out)
	if err != nil {
		return err
	}
	fault.Point("epair.made")
	if _, err := h.do(h.hostEnd(a, l)...); err != nil {
		return errors.Join(errs.Wrap(err, "name %s %s", a, h.vethName(l.EndpointID)), h.destroy(a), h.destroy(h.vethName(l.EndpointID)))
	}
	steps := [][]string{h.join(l), moveIn(b, jail), inJail(jail, innerEnd(b, l))}
	for _, argv := range l.configure(linkLocal, has6) {
		steps = append(steps, inJail(jail, argv))
	}
	if err := h.all(steps...); err != nil {
		return errors.Join(errs.Wrap(err, "lead %s into jail %s", h.vethName(l.EndpointID), jail), h.destroy(h.vethName(l.EndpointID)))
	}
	return nil
}

// checkLeg refuses what an interface can't have here, and gives its link-local addresses.
func checkLeg(l *leg) (out []netip.Prefix, err error) {
	settings, err := endpointSysctls(l.Spec.DriverOpts)
	if err != nil {
		return nil, err
	}
	if len(settings) > 0 {
		return nil, errs.New(errs.NotImplemented, "%s: interfaces have no such settings on this system", optSysctls)
	}
	if _, err := net.ParseMAC(l.MAC); err != nil {
		return nil, errs.New(errs.Invalid, "invalid MAC address: %s", l.MAC)
	}
	if !plainName.MatchString(l.Iface) {
		return nil, errs.New(errs.Invalid, "%q is no name for an interface on this system", l.Iface)
	}
	for _, s := range l.Spec.LinkLocal {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, errs.New(errs.Invalid, "invalid link-local IP address: %s", s)
		}
		out = append(out, netip.PrefixFrom(a.WithZone(""), map[bool]int{true: 16, false: 64}[a.Is4()]))
	}
	return out, nil
}

// enslave puts an endpoint's link back into its bridge.
func (h *bsdHost) enslave(l leg) error {
	if h.shared {
		return h.alias(&l)
	}
	have, err := h.nics()
	if err != nil {
		return err
	}
	name, in := h.vethName(l.EndpointID), bridgeOf(have, h.vethName(l.EndpointID))
	var steps [][]string
	if in != l.bridge {
		if in != "" {
			steps = append(steps, leaveBridge(in, name))
		}
		steps = append(steps, h.join(&l))
	}
	return errs.Wrap(h.all(append(steps, joinGroup(name, l.bridge))...), "put %s into bridge %s", name, l.bridge)
}

func bridgeOf(have []nic, link string) string {
	for _, n := range have {
		if slices.Contains(n.members, link) {
			return n.name
		}
	}
	return ""
}

// members gives the names of this instance's links and of the bridges that they are in; "" for none, or for one that the firewall doesn't
// know of. It looks which jails there are, too.
func (h *bsdHost) members() (map[string]string, error) {
	have, err := h.nics()
	if err != nil {
		return nil, err
	}
	if h.jails, err = h.netJails(); err != nil {
		return nil, err
	}
	if h.shared {
		return h.aliases(have), nil
	}
	out := map[string]string{}
	for _, n := range have {
		if !strings.HasPrefix(n.name, h.linkPrefix()) {
			continue
		}
		in := bridgeOf(have, n.name)
		if !slices.Contains(n.groups, groupOf(in)) {
			in = ""
		}
		out[n.name] = in
	}
	return out, nil
}

// hasNetns reports whether the container's jail was there when members looked.
func (h *bsdHost) hasNetns(id brig.ID) bool {
	_, there := h.jails[h.jail(id)]
	return there
}

// bind takes a running container's network stack for one of ours, which it is already or can't become.
func (h *bsdHost) bind(id brig.ID, pid int) error {
	jails, err := h.netJails()
	if err != nil {
		return err
	}
	if _, ours := jails[h.jail(id)]; !ours {
		return errs.New(errs.NotImplemented, "container %s has no network stack that can be connected: on this system it gets one when it starts in a network", id.Short())
	}
	return nil
}

// release removes the container's links and its jail. An interface whose jail ends first would come back to the host.
func (h *bsdHost) release(id brig.ID) error {
	have, err := h.nics()
	if err != nil {
		return err
	}
	for _, n := range have {
		if m, ok := brig.ParseLinkMark(n.descr); ok && m.Instance == h.instance && m.Container == string(id[:16]) {
			err = errors.Join(err, h.destroy(n.name))
		}
	}
	if h.shared {
		err = errors.Join(err, h.vacate(have, id))
	}
	fault.Point("netns.unbound")
	return errors.Join(err, h.removeJail(h.jail(id)))
}

// setRoutes makes the default routes in a jail what they shall be. One by an interface that isn't ours is the container's business.
func (h *bsdHost) setRoutes(jail string, to defaults, fresh bool) error {
	for _, is4 := range []bool{true, false} {
		var want, have route
		for _, r := range to.routes {
			if r.via.Is4() == is4 {
				want = r
			}
		}
		if !fresh {
			out, err := h.do(inJail(jail, getDefault(is4))...)
			if err != nil && !says(err, "not been found") && !says(err, "Address family not supported") && !says(err, "Protocol not supported") {
				return errs.Wrap(err, "look for the default route of jail %s", jail)
			}
			have = parseRoute(out)
		}
		if have == want {
			continue
		}
		if have.iface != "" {
			if !slices.Contains(to.ifaces, have.iface) {
				continue
			}
			if _, err := h.do(inJail(jail, dropDefault(is4))...); err != nil && !says(err, "not in table") {
				return errs.Wrap(err, "delete the default route by %s", have.via)
			}
		}
		if !want.via.IsValid() {
			continue
		}
		if _, err := h.do(inJail(jail, addDefault(want.via))...); err != nil && !says(err, "File exists") && !says(err, "already in table") {
			return errs.Wrap(err, "route by %s", want.via)
		}
	}
	return nil
}
