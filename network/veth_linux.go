package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// plug makes the container's namespace, with a leg in each bridge, and default routes.
func (h *host) plug(id brig.ID, legs []leg, to defaults) error {
	ns, err := h.makeNetns(id)
	if err != nil {
		return err
	}
	defer ns.Close()
	return h.legs(ns, legs, to, true)
}

// add gives a namespace that is there further legs, and makes its default routes what they shall be.
func (h *host) add(id brig.ID, legs []leg, to defaults) error {
	ns, err := os.Open(h.netnsPath(id))
	if err != nil {
		return errs.Wrap(err, "open network namespace")
	}
	defer ns.Close()
	return h.legs(ns, legs, to, false)
}

// reroute makes the default routes of a namespace what they shall be.
func (h *host) reroute(id brig.ID, to defaults) error { return h.add(id, nil, to) }

func (h *host) legs(ns *os.File, legs []leg, to defaults, fresh bool) error {
	for i := range legs {
		if err := h.link(ns, &legs[i]); err != nil {
			return err
		}
		fault.Point("veth.added")
	}
	return inNetns(ns, func() error {
		nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return errs.Wrap(err, "open netlink in the container's namespace")
		}
		defer nl.Close()
		if fresh {
			if err := raise(nl, "lo"); err != nil {
				return err
			}
		}
		for i := range legs {
			if err := configure(nl, &legs[i]); err != nil {
				return err
			}
		}
		return setRoutes(nl, to, fresh)
	})
}

// link makes a veth pair from the bridge into ns.
func (h *host) link(ns *os.File, l *leg) error {
	br, err := netlink.LinkByName(l.bridge)
	if err != nil {
		return errs.Wrap(err, "find bridge %s", l.bridge)
	}
	mac, err := net.ParseMAC(l.MAC)
	if err != nil {
		return errs.New(errs.Invalid, "invalid MAC address: %s", l.MAC)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex, attrs.Flags, attrs.MTU = h.vethName(l.EndpointID), br.Attrs().Index, net.FlagUp, l.mtu
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: l.Iface, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(ns.Fd())), PeerMTU: uint32(l.mtu)}
	if err := netlink.LinkAdd(veth); err != nil {
		return errs.Wrap(err, "add veth pair %s", veth.Name)
	}
	return portFlags(veth, l)
}

// portFlags sets what a bridge's port is to do. A packet to one's own published port comes back by the port that it came from, where
// bridges call iptables (br_netfilter).
func portFlags(veth netlink.Link, l *leg) error {
	if l.published {
		if err := netlink.LinkSetHairpin(veth, true); err != nil {
			return errs.Wrap(err, "let %s send back", veth.Attrs().Name)
		}
	}
	if l.isolated {
		return errs.Wrap(netlink.LinkSetIsolated(veth, true), "isolate %s from other containers", veth.Attrs().Name)
	}
	return nil
}

// enslave puts an endpoint's link back into its bridge.
func (h *host) enslave(l leg) error {
	br, err := netlink.LinkByName(l.bridge)
	if err != nil {
		return errs.Wrap(err, "find bridge %s", l.bridge)
	}
	veth, err := netlink.LinkByName(h.vethName(l.EndpointID))
	if err != nil {
		return errs.Wrap(err, "find link %s", h.vethName(l.EndpointID))
	}
	if err := netlink.LinkSetMaster(veth, br); err != nil {
		return errs.Wrap(err, "put %s into bridge %s", veth.Attrs().Name, l.bridge)
	}
	return portFlags(veth, &l)
}

// members gives the names of this instance's links and of the bridges that they are in; "" for none.
func (h *host) members() (map[string]string, error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, errs.Wrap(err, "list links")
	}
	names, out := map[int]string{}, map[string]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		if a := l.Attrs(); h.isVeth(a.Name) {
			out[a.Name] = names[a.MasterIndex]
		}
	}
	return out, nil
}

func raise(nl *netlink.Handle, name string) error {
	l, err := nl.LinkByName(name)
	if err != nil {
		return errs.Wrap(err, "find %s", name)
	}
	return errs.Wrap(nl.LinkSetUp(l), "bring up %s", name)
}

// configure gives an interface in the namespace of the calling thread its addresses.
func configure(nl *netlink.Handle, l *leg) error {
	eth, err := nl.LinkByName(l.Iface)
	if err != nil {
		return errs.Wrap(err, "find %s", l.Iface)
	}
	if l.Addr6.IsValid() {
		for name, v := range map[string]string{"disable_ipv6": "0", "accept_ra": "0"} {
			if err := sysctl("net/ipv6/conf/"+l.Iface+"/"+name, v); err != nil {
				return err
			}
		}
	}
	settings, err := endpointSysctls(l.Spec.DriverOpts)
	if err != nil {
		return err
	}
	for _, kv := range settings {
		if err := sysctl(strings.Replace(kv[0], "IFNAME", l.Iface, 1), kv[1]); err != nil {
			return errs.As(errs.Invalid, err)
		}
	}
	addrs := []netip.Prefix{l.Addr4, l.Addr6}
	for _, s := range l.Spec.LinkLocal {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return errs.New(errs.Invalid, "invalid link-local IP address: %s", s)
		}
		addrs = append(addrs, netip.PrefixFrom(a, map[bool]int{true: 16, false: 64}[a.Is4()]))
	}
	for _, p := range addrs {
		if !p.IsValid() {
			continue
		}
		a := &netlink.Addr{IPNet: ipNet(p)}
		if !p.Addr().Is4() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := nl.AddrReplace(eth, a); err != nil {
			return errs.Wrap(err, "give %s to %s", p, l.Iface)
		}
	}
	return errs.Wrap(nl.LinkSetUp(eth), "bring up %s", l.Iface)
}

// setRoutes makes the default routes in the namespace of the calling thread what they shall be.
func setRoutes(nl *netlink.Handle, to defaults, fresh bool) error {
	kept := map[route]bool{}
	if !fresh {
		have, err := whole(func() ([]netlink.Route, error) {
			return nl.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return errs.Wrap(err, "list routes")
		}
		for _, r := range have {
			if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
				continue
			}
			is, ok := known(nl, &r)
			if ok && slices.Contains(to.routes, is) {
				kept[is] = true
				continue
			}
			if !slices.Contains(to.ifaces, is.iface) {
				continue
			}
			if err := nl.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				return errs.Wrap(err, "delete the default route by %s", r.Gw)
			}
		}
	}
	for _, r := range to.routes {
		if kept[r] {
			continue
		}
		l, err := nl.LinkByName(r.iface)
		if err != nil {
			return errs.Wrap(err, "find %s", r.iface)
		}
		if err := nl.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: r.via.AsSlice()}); err != nil && !errors.Is(err, unix.EEXIST) { // one of its own is as good
			return errs.Wrap(err, "route by %s", r.via)
		}
	}
	return nil
}

// known is a default route of the kernel's in our terms; false if it leads to no gateway.
func known(nl *netlink.Handle, r *netlink.Route) (route, bool) {
	l, err := nl.LinkByIndex(r.LinkIndex)
	if err != nil {
		return route{}, false
	}
	gw, ok := netip.AddrFromSlice(r.Gw)
	return route{l.Attrs().Name, gw.Unmap()}, ok
}
