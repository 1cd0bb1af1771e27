package network

import (
	"fmt"
	"net/netip"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// pool gives out the addresses of one network, the lowest first as dockerd does: a container that starts again mostly gets the address that
// it had, which others may have looked up once for all. Its zero value is empty. Networks.mu guards it.
type pool struct {
	used map[netip.Addr]bool
}

// take returns fixed, if it isn't "", or the lowest free address of the subnet, with the subnet's length.
func (p *pool) take(s brig.Subnet, fixed string) (netip.Prefix, error) {
	if fixed != "" {
		a, err := netip.ParseAddr(fixed)
		if err != nil || !s.Prefix.Contains(a) {
			return netip.Prefix{}, errs.New(errs.Invalid, "Invalid address %s: It does not belong to any of this network's subnets", fixed)
		}
		if p.used[a] || reserved(s, a) {
			return netip.Prefix{}, errs.New(errs.Forbidden, "Address already in use")
		}
		p.mark(a)
		return netip.PrefixFrom(a, s.Prefix.Bits()), nil
	}
	a, ok := p.free(s)
	if !ok {
		return netip.Prefix{}, errs.New(errs.Unavailable, "no available %s addresses on the subnet %s", family(s.Prefix.Addr()), from(s))
	}
	p.mark(a)
	return netip.PrefixFrom(a, s.Prefix.Bits()), nil
}

// free finds the lowest address of the subnet that nobody has.
func (p *pool) free(s brig.Subnet) (netip.Addr, bool) {
	r := from(s)
	for a := r.Masked().Addr(); r.Contains(a); a = a.Next() {
		if !reserved(s, a) && !p.used[a] {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// from is the range that addresses of s are given out from.
func from(s brig.Subnet) netip.Prefix {
	if s.Range.IsValid() {
		return s.Range
	}
	return s.Prefix
}

// reserved tells addresses that no container gets: the network's and the broadcast address, the gateway, the auxiliary ones.
func reserved(s brig.Subnet, a netip.Addr) bool {
	if a == s.Prefix.Masked().Addr() || a == s.Gateway || (a.Is4() && s.Prefix.Bits() < 31 && a == broadcast(s.Prefix)) {
		return true
	}
	for _, aux := range s.Aux {
		if a == aux {
			return true
		}
	}
	return false
}

// mark notes an address that somebody has.
func (p *pool) mark(a netip.Addr) {
	if p.used == nil {
		p.used = map[netip.Addr]bool{}
	}
	p.used[a] = true
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

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// macFor derives a locally administered MAC from an address, so that an address keeps its neighbour entries true.
func macFor(a netip.Addr) string {
	b := a.AsSlice()
	b = b[len(b)-4:]
	return fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// candidates4 are the IPv4 subnets that a network may get, in the order of trying: Docker's own default pools.
func candidates4() []netip.Prefix {
	var out []netip.Prefix
	for i := 17; i < 32; i++ {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i), 0, 0}), 16))
	}
	for i := 0; i < 256; i += 16 {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 20))
	}
	return out
}

// userCandidates4 leaves the default network's likely subnet for the last.
func userCandidates4() []netip.Prefix {
	all := candidates4()
	return append(all[1:], all[0])
}

// candidates6 are the IPv6 subnets of an instance: a unique local prefix (RFC 4193) that its id makes, cut into networks of 64 bits.
func candidates6(instance string) []netip.Prefix {
	b := [16]byte{0: 0xfd, 5: 0xb1}
	fmt.Sscanf(instance, "%02x%02x%02x%02x", &b[1], &b[2], &b[3], &b[4]) // an instance is 8 digits; others give zeros
	var out []netip.Prefix
	for i := range 4096 {
		b[6], b[7] = byte(i>>8), byte(i)
		out = append(out, netip.PrefixFrom(netip.AddrFrom16(b), 64))
	}
	return out
}

// choose returns the first candidate that overlaps none of the taken prefixes.
func choose(candidates, taken []netip.Prefix) (brig.Subnet, error) {
	for _, c := range candidates {
		if !overlaps(taken, c) {
			return brig.Subnet{Prefix: c, Gateway: c.Addr().Next(), Auto: true, AutoGateway: true}, nil
		}
	}
	return brig.Subnet{}, errs.New(errs.Unavailable, "all predefined address pools have been fully subnetted")
}

func overlaps(taken []netip.Prefix, p netip.Prefix) bool {
	for _, t := range taken {
		if t.Overlaps(p) {
			return true
		}
	}
	return false
}
