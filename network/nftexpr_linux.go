package network

import (
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
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

func iif(name string, op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: ifname(name)}}
}

func oif(name string, op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: ifname(name)}}
}

// src and dst match an address against a prefix.
func src(p netip.Prefix, op expr.CmpOp) []expr.Any { return addrIn(p, 12, 8, op) }
func dst(p netip.Prefix, op expr.CmpOp) []expr.Any { return addrIn(p, 16, 24, op) }

// addrIn matches the address at off4 or off6, its offset in an IPv4 (RFC 791, 3.1) or IPv6 (RFC 8200, 3) header in bytes.
func addrIn(p netip.Prefix, off4, off6 uint32, op expr.CmpOp) []expr.Any {
	n, off := uint32(p.Addr().BitLen()/8), off4
	if !p.Addr().Is4() {
		off = off6
	}
	mask := make([]byte, n)
	for i := range p.Bits() {
		mask[i/8] |= 1 << (7 - i%8)
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: off, Len: n},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: n, Mask: mask, Xor: make([]byte, n)},
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

// hostAddr matches the destination address; all of them for an unspecified one.
func hostAddr(a netip.Addr) []expr.Any {
	if a.IsUnspecified() {
		return nil
	}
	return dst(netip.PrefixFrom(a, a.BitLen()), expr.CmpOpEq)
}

// notLoopback6 leaves connections to ::1 out of what is published at all IPv6 addresses: from there no packet may leave, a relay takes them.
func notLoopback6(a netip.Addr) []expr.Any {
	if a.Is4() {
		return nil
	}
	return dst(netip.PrefixFrom(netip.IPv6Loopback(), 128), expr.CmpOpNeq)
}

// dport matches protocol and destination port, which TCP, UDP and SCTP have at the same place.
func dport(proto string, port uint16) []expr.Any {
	n := map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}[proto]
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{n}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

func dnat(to netip.Addr, port uint16) []expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if !to.Is4() {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: 1, RegProtoMin: 2},
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

// established matches replies, and what belongs to a connection: bits of ct state (linux/netfilter/nf_conntrack_common.h).
func established() []expr.Any {
	const established, related = 1 << 1, 1 << 2
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(established | related), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }
