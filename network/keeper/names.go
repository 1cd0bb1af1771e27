package keeper

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// zone is a Zone made ready for look-ups. Nothing of it changes, but whose turn it is.
type zone struct {
	from    Zone
	domain  string // the network's name in lower case
	names   map[string]*addresses
	reverse map[netip.Addr]string // address → fully qualified name
}

// addresses are those of one name.
type addresses struct {
	v4, v6       []netip.Addr
	turn4, turn6 atomic.Uint32 // how often each was asked: answers begin with another each time
	same         []netip.Addr  // as given, to tell whether they have changed
}

func newAddresses(all []netip.Addr) *addresses {
	a := &addresses{same: all}
	for _, x := range all {
		x = x.Unmap().WithZone("")
		switch {
		case x.Is4():
			a.v4 = append(a.v4, x)
		case x.Is6():
			a.v6 = append(a.v6, x)
		}
	}
	return a
}

// of returns the addresses of one family, rotated.
func (a *addresses) of(qtype uint16) []netip.Addr {
	all, turn := a.v4, &a.turn4
	if qtype == dns.TypeAAAA {
		all, turn = a.v6, &a.turn6
	}
	if len(all) < 2 {
		return all
	}
	n := int((turn.Add(1) - 1) % uint32(len(all)))
	return append(slices.Clone(all[n:]), all[:n]...)
}

// key is how a name is looked up: in lower case, without the dot at its end.
func key(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func sameName(a, b Name) bool { return a.Name == b.Name && slices.Equal(a.Addrs, b.Addrs) }

// newZone indexes z. What hasn't changed since old, which may be nil, is taken over from it.
func newZone(z Zone, old *zone) *zone {
	if old != nil && old.from.Name == z.Name && slices.EqualFunc(old.from.Names, z.Names, sameName) {
		return old
	}
	n := &zone{from: z, domain: key(z.Name), reverse: make(map[netip.Addr]string, len(z.Names))}
	var before map[string]*addresses
	if old != nil {
		before = old.names
	}
	n.names = index(z.Names, before)
	for _, name := range z.Names {
		for _, a := range name.Addrs {
			if a = a.Unmap().WithZone(""); n.reverse[a] == "" {
				n.reverse[a] = dns.Fqdn(strings.TrimSuffix(name.Name, ".") + "." + z.Name)
			}
		}
	}
	return n
}

// index makes a table of names. A name given twice has all addresses of both.
func index(names []Name, before map[string]*addresses) map[string]*addresses {
	joined := make(map[string][]netip.Addr, len(names))
	for _, n := range names {
		k := key(n.Name)
		joined[k] = append(slices.Clip(joined[k]), n.Addrs...)
	}
	out := make(map[string]*addresses, len(joined))
	for k, all := range joined {
		if b := before[k]; b != nil && slices.Equal(b.same, all) {
			out[k] = b
			continue
		}
		out[k] = newAddresses(all)
	}
	return out
}

// view is what one container sees. It is never changed, only replaced.
type view struct {
	own      map[string]*addresses
	zones    []*zone // those of its networks, in order
	servers  []server
	internal bool
	ndots    bool
}

// server is an upstream server.
type server struct {
	at       netip.AddrPort
	fromHost bool
}

// find looks a name up as dockerd does: a.b.c in the container's networks, then a.b in the network named c, then a in the
// network b.c. Links come before containers of the same name. known: there is such a name, though perhaps none of its
// addresses is of the type that was asked for.
func (v *view) find(name string, qtype uint16) (found []netip.Addr, known bool) {
	k := key(name)
	for at := len(k); at > 0; at = strings.LastIndexByte(k[:at], '.') {
		head, domain := k[:at], ""
		if at < len(k) {
			domain = k[at+1:]
		}
		if found, known = v.findIn(head, domain, qtype); known {
			return found, true
		}
	}
	return nil, false
}

// findIn looks head up in the networks named domain, in all of the container's if that is empty.
func (v *view) findIn(head, domain string, qtype uint16) (found []netip.Addr, known bool) {
	in := domain == ""
	for _, z := range v.zones {
		in = in || z.domain == domain
	}
	if a := v.own[head]; a != nil && in {
		return a.of(qtype), true
	}
	for _, z := range v.zones {
		if domain != "" && z.domain != domain {
			continue
		}
		if a := z.names[head]; a != nil {
			if known, found = true, a.of(qtype); len(found) > 0 {
				return found, true
			}
		}
	}
	return nil, known
}

// nameOf returns the fully qualified name of an address, or "".
func (v *view) nameOf(a netip.Addr) string {
	for _, z := range v.zones {
		if n := z.reverse[a]; n != "" {
			return n
		}
	}
	return ""
}

// reversed is the address that a name of a reverse lookup stands for (RFC 1035, 3.5; RFC 3596, 2.5).
func reversed(name string) (netip.Addr, bool) {
	k := key(name)
	if s, ok := strings.CutSuffix(k, ".in-addr.arpa"); ok {
		parts := strings.Split(s, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	s, ok := strings.CutSuffix(k, ".ip6.arpa")
	if !ok || len(s) != 63 {
		return netip.Addr{}, false
	}
	var hex strings.Builder
	for i := 62; i >= 0; i -= 2 {
		if i > 0 && s[i-1] != '.' {
			return netip.Addr{}, false
		}
		hex.WriteByte(s[i])
		if n := (62 - i) / 2; n%4 == 3 && i > 0 {
			hex.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(hex.String())
	return a, err == nil
}
