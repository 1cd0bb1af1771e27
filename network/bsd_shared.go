package network

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// Without VNET (freebsd-network = "shared", or a kernel that has none) a network is a loopback interface of the host's, with the gateway's
// address, and each container's as an alias with the longest prefix. The jail that would hold a container's network stack holds the list of its
// addresses instead (jail(8), ip4.addr): the container's own jail inherits it, and can neither use another address nor see another's. A network's
// interface is in a group of its own, as a bridge is, for pf.
//
// There is no routing between networks, all is delivered by the host to itself: what pf forbids it forbids where packets leave (pf.go, shared).

// makeLoopback makes a network's interface. mtu 0 is the kernel's.
func (c commands) makeLoopback(name string, mtu int) []string {
	return append(append([]string{"ifconfig", "lo", "create", "name", name, "descr", c.mark(), "group", groupOf(name)}, mtuArgs(mtu)...), "up")
}

// setAddrs gives a jail its addresses, those alone.
func setAddrs(jail string, addrs []netip.Addr) []string {
	var four, six []string
	for _, a := range addrs {
		if a.Is4() {
			four = append(four, a.String())
		} else {
			six = append(six, a.String())
		}
	}
	return []string{"jail", "-m", "name=" + jail, "ip4.addr=" + strings.Join(four, ","), "ip6.addr=" + strings.Join(six, ",")}
}

func listAddrs(jail string) []string {
	return []string{"jls", "-j", jail, "ip4.addr", "ip6.addr"}
}

// single is an address as the alias of a container.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// aliasNames are an endpoint's addresses.
func aliasNames(ep brig.Endpoint) (out []string) {
	for _, p := range []netip.Prefix{ep.Addr4, ep.Addr6} {
		if p.IsValid() {
			out = append(out, p.Addr().String())
		}
	}
	return out
}

// aliases gives the addresses of containers that this instance's interfaces have, and the interfaces; "" for one that pf doesn't know of.
func (h *bsdHost) aliases(have []nic) map[string]string {
	out := map[string]string{}
	for _, n := range have {
		if n.descr != h.mark() {
			continue
		}
		for _, p := range n.addrs {
			if p.IsSingleIP() {
				out[p.Addr().String()] = n.name
				if !slices.Contains(n.groups, groupOf(n.name)) {
					out[p.Addr().String()] = ""
				}
			}
		}
	}
	return out
}

// occupy gives a container's jail the addresses of legs, beside those that it has. The jail has them before an interface does: what a killed brigd
// leaves is found by either.
func (h *bsdHost) occupy(id brig.ID, legs []leg) error {
	have, err := h.addrsOf(h.jail(id))
	if err != nil {
		return err
	}
	want := slices.Clone(have)
	for i := range legs {
		for _, p := range []netip.Prefix{legs[i].Addr4, legs[i].Addr6} {
			if p.IsValid() && !slices.Contains(want, p.Addr()) {
				want = append(want, p.Addr())
			}
		}
	}
	if _, err := h.do(setAddrs(h.jail(id), want)...); err != nil {
		return errs.Wrap(err, "give jail %s its addresses", h.jail(id))
	}
	fault.Point("jail.addressed")
	for i := range legs {
		if err := h.alias(&legs[i]); err != nil {
			return errors.Join(err, h.leave(legs[i].Endpoint))
		}
		fault.Point("veth.added")
	}
	return nil
}

// alias gives a leg's addresses to its network's interface, and takes them from others of this instance.
func (h *bsdHost) alias(l *leg) error {
	nics, err := h.nics()
	if err != nil {
		return err
	}
	at := h.aliases(nics)
	if l.Addr6.IsValid() {
		if _, err := h.do(useIPv6(l.bridge)...); err != nil {
			return errs.Wrap(err, "let interface %s have IPv6", l.bridge)
		}
	}
	for _, p := range []netip.Prefix{l.Addr4, l.Addr6} {
		if !p.IsValid() {
			continue
		}
		in, there := at[p.Addr().String()]
		if there && in == l.bridge {
			continue
		}
		if there {
			if err := h.dropAlias(p.Addr()); err != nil {
				return err
			}
		}
		if _, err := h.do(addAddr(l.bridge, single(p.Addr()))...); err != nil {
			return errs.Wrap(err, "give %s to interface %s", p.Addr(), l.bridge)
		}
	}
	return nil
}

// dropAlias takes a container's address from the interface of this instance that has it.
func (h *bsdHost) dropAlias(a netip.Addr) error {
	nics, err := h.nics()
	if err != nil {
		return err
	}
	for _, n := range nics {
		if n.descr != h.mark() || !slices.Contains(n.addrs, single(a)) {
			continue
		}
		if _, err := h.do(dropAddr(n.name, single(a))...); err != nil && !says(err, "assign requested address") { // else it has gone meanwhile
			return errs.Wrap(err, "take %s from interface %s", a, n.name)
		}
	}
	return nil
}

// leave takes an endpoint's addresses from the interface and from the container's jail. Those that are not there are gone already.
func (h *bsdHost) leave(ep brig.Endpoint) error {
	var addrs []netip.Addr
	var failed error
	for _, p := range []netip.Prefix{ep.Addr4, ep.Addr6} {
		if p.IsValid() {
			addrs = append(addrs, p.Addr())
			failed = errors.Join(failed, h.dropAlias(p.Addr()))
		}
	}
	jails, err := h.netJails()
	if err != nil {
		return errors.Join(failed, err)
	}
	for name := range jails {
		have, err := h.addrsOf(name)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		left := slices.DeleteFunc(slices.Clone(have), func(a netip.Addr) bool { return slices.Contains(addrs, a) })
		if len(left) == len(have) {
			continue
		}
		if _, err := h.do(setAddrs(name, left)...); err != nil && !says(err, "not found") {
			failed = errors.Join(failed, errs.Wrap(err, "take addresses from jail %s", name))
		}
	}
	return failed
}

// vacate takes all addresses of the container's jail from the interfaces that have them.
func (h *bsdHost) vacate(have []nic, id brig.ID) error {
	addrs, err := h.addrsOf(h.jail(id))
	at := h.aliases(have)
	for _, a := range addrs {
		if _, there := at[a.String()]; there {
			err = errors.Join(err, h.dropAlias(a))
		}
	}
	return err
}

// addrsOf lists the addresses of a jail; none for one that is not there.
func (h *bsdHost) addrsOf(jail string) ([]netip.Addr, error) {
	text, err := h.do(listAddrs(jail)...)
	if says(err, "not found") {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Wrap(err, "list the addresses of jail %s", jail)
	}
	return parseAddrs(text)
}

// parseAddrs reads what `jls ip4.addr ip6.addr` prints: lists with commas, "-" for an empty one.
func parseAddrs(text string) (out []netip.Addr, err error) {
	for _, list := range strings.Fields(text) {
		for _, s := range strings.Split(list, ",") {
			if s == "-" {
				continue
			}
			a, err := netip.ParseAddr(s)
			if err != nil {
				return nil, errs.New(errs.Internal, "jls says %q, which are no addresses", text)
			}
			out = append(out, a)
		}
	}
	return out, nil
}
