package network

import (
	"errors"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// One table per instance holds all rules:
//
//	prerouting, output (nat):  fib daddr type local, protocol, [host address], port → dnat to the container
//	postrouting (nat):         masquerade what leaves the subnet, what came from loopback, and what comes back to its own bridge
//	guard (raw prerouting):    nothing from the bridge may claim a loopback destination (route_localnet is on)
//
// program replaces the table in one transaction, so there is no moment with half of the rules.
func (h *host) tableName() string { return "brig_" + h.instance }

// program makes the instance's table say exactly these forwards for the bridge w.
func (h *host) program(w *brig.Network, fs []forward) error {
	c, err := nftables.New()
	if err != nil {
		return errs.Wrap(err, "open nftables")
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: h.tableName()}
	c.AddTable(t) // so that the deletion finds one
	c.DelTable(t)
	c.AddTable(t)
	chain := func(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: typ, Hooknum: hook, Priority: &prio})
	}
	rule := func(ch *nftables.Chain, parts ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: concat(parts...)})
	}
	sub := w.Subnets[0].Prefix.Masked()
	guard := chain("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
	rule(guard, iif(w.Bridge), addrIn(offDst, netip.MustParsePrefix("127.0.0.0/8"), expr.CmpOpEq), verdict(expr.VerdictDrop))
	pre := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest)
	out := chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100)
	for _, f := range fs {
		for _, ch := range []*nftables.Chain{pre, out} {
			rule(ch, toLocal(), hostAddr(f.HostIP), dport(f.Proto, f.HostPort), dnat(f.to, f.Number))
		}
	}
	post := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	rule(post, addrIn(offSrc, sub, expr.CmpOpEq), oif(w.Bridge, expr.CmpOpNeq), masquerade())
	rule(post, oif(w.Bridge, expr.CmpOpEq), addrIn(offSrc, netip.MustParsePrefix("127.0.0.0/8"), expr.CmpOpEq), masquerade())
	rule(post, oif(w.Bridge, expr.CmpOpEq), addrIn(offSrc, sub, expr.CmpOpEq), wasDNATed(), masquerade())
	return errs.Wrap(c.Flush(), "replace nftables table ip %s", t.Name)
}

// clearRules deletes the instance's table if it is there.
func (h *host) clearRules() error {
	c, err := nftables.New()
	if err != nil {
		return errs.Wrap(err, "open nftables")
	}
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: h.tableName()})
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return errs.Wrap(err, "delete nftables table ip %s", h.tableName())
	}
	return nil
}

// Offsets of the addresses in an IPv4 header (RFC 791, 3.1), in bytes.
const (
	offSrc = 12
	offDst = 16
)

func concat(parts ...[]expr.Any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func ifname(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

func iif(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifname(name)}}
}

func oif(name string, op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: ifname(name)}}
}

// addrIn matches the address at off against a prefix.
func addrIn(off uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
	mask := make([]byte, 4)
	for i := range p.Bits() {
		mask[i/8] |= 1 << (7 - i%8)
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: off, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// toLocal matches packets to an address of the host.
func toLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// hostAddr matches the destination address; all of them for 0.0.0.0.
func hostAddr(ip string) []expr.Any {
	a, err := netip.ParseAddr(ip)
	if err != nil || a.IsUnspecified() {
		return nil
	}
	return addrIn(offDst, netip.PrefixFrom(a, 32), expr.CmpOpEq)
}

// dport matches protocol and destination port, which TCP and UDP have at the same place.
func dport(proto string, port uint16) []expr.Any {
	n := byte(unix.IPPROTO_TCP)
	if proto == "udp" {
		n = unix.IPPROTO_UDP
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{n}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

func dnat(to netip.Addr, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
	}
}

// wasDNATed matches connections whose destination we changed: bit IPS_DST_NAT of ct status (linux/netfilter/nf_conntrack_common.h).
func wasDNATed() []expr.Any {
	const ipsDstNAT = 1 << 5
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(ipsDstNAT), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }
