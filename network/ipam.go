package network

import (
	"fmt"
	"net/netip"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// pool gives out IPv4 addresses. It goes on from the last one given, so that an address rests before it is used again.
// Its zero value is empty. Networks.mu guards it.
type pool struct {
	used map[netip.Addr]bool
	last netip.Addr
}

// take returns fixed, if it isn't "", or the next free address of the subnet, with the subnet's length.
func (p *pool) take(s brig.Subnet, fixed string) (netip.Prefix, error) {
	if p.used == nil {
		p.used = map[netip.Addr]bool{}
	}
	if fixed != "" {
		a, err := netip.ParseAddr(fixed)
		if err != nil || !s.Prefix.Contains(a) || a == s.Gateway {
			return netip.Prefix{}, errs.New(errs.Invalid, "invalid address %s: it is not a free one of subnet %s", fixed, s.Prefix)
		}
		if p.used[a] {
			return netip.Prefix{}, errs.New(errs.Forbidden, "Address already in use")
		}
		p.used[a] = true
		return netip.PrefixFrom(a, s.Prefix.Bits()), nil
	}
	from := s.Prefix
	if s.Range.IsValid() {
		from = s.Range
	}
	a := p.last
	if !from.Contains(a) {
		a = from.Masked().Addr()
	}
	for start := a; ; {
		if a = a.Next(); !from.Contains(a) {
			a = from.Masked().Addr()
		}
		if a != s.Prefix.Masked().Addr() && a != broadcast(s.Prefix) && a != s.Gateway && !p.used[a] {
			p.used[a], p.last = true, a
			return netip.PrefixFrom(a, s.Prefix.Bits()), nil
		}
		if a == start {
			return netip.Prefix{}, errs.New(errs.Unavailable, "no available IPv4 addresses on the subnet %s", from)
		}
	}
}

// hold marks an address that a live container has.
func (p *pool) hold(a netip.Addr) {
	if p.used == nil {
		p.used = map[netip.Addr]bool{}
	}
	p.used[a] = true
	if !p.last.IsValid() || p.last.Less(a) {
		p.last = a
	}
}

// give frees an address.
func (p *pool) give(a netip.Addr) { delete(p.used, a) }

// broadcast returns the last address of an IPv4 prefix.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// macFor derives a locally administered MAC from an IPv4 address, so that an address keeps its neighbour entries true.
func macFor(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// candidates are the subnets that the default bridge may get, in the order of trying: Docker's own default pool.
func candidates() []netip.Prefix {
	var out []netip.Prefix
	for i := 17; i < 32; i++ {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i), 0, 0}), 16))
	}
	for i := 0; i < 256; i += 16 {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 20))
	}
	return out
}

// choose returns the first candidate that overlaps none of the taken prefixes.
func choose(taken []netip.Prefix) (brig.Subnet, error) {
	for _, c := range candidates() {
		free := true
		for _, t := range taken {
			free = free && !t.Overlaps(c)
		}
		if free {
			return brig.Subnet{Prefix: c, Gateway: c.Addr().Next()}, nil
		}
	}
	return brig.Subnet{}, errs.New(errs.Unavailable, "all predefined address pools have been fully subnetted")
}
