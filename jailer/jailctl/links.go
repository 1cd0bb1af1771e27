package jailctl

import (
	"encoding/binary"
	"errors"
)

// Link is what a network stack has counted at one of its interfaces.
type Link struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// ParseLinks reads the messages of sysctl(3) net.routetable, NET_RT_IFLIST: struct if_msghdr (net/if.h), the same since FreeBSD 11, with a struct
// sockaddr_dl after it that has the name. Loopback is left out, and so is what each network stack has for pf(4) and IPsec, pflog0 and enc0.
func ParseLinks(b []byte) (out []Link, err error) {
	const (
		infoType, loopback = 0xe, 0x8   // RTM_IFINFO, IFF_LOOPBACK
		pflog, enc         = 0xf6, 0xf4 // net/if_types.h
		data, size         = 16, 152    // where struct if_data is, and its size
	)
	e := binary.LittleEndian
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, errors.New("the kernel's list of interfaces ends in the middle of one")
		}
		n := int(e.Uint16(b))
		if n < 4 || n > len(b) {
			return nil, errors.New("a message in the kernel's list of interfaces is longer than the list")
		}
		m := b[:n]
		b = b[n:]
		if m[3] != infoType {
			continue
		}
		if n < data+size+8 || int(e.Uint16(m[data+6:])) != size {
			return nil, errors.New("an interface in the kernel's list is not the structure of FreeBSD 11 and later")
		}
		dl := m[data+size:]
		nameLen := int(dl[5])
		if len(dl) < 8+nameLen {
			return nil, errors.New("the name of an interface in the kernel's list is cut off")
		}
		if kind := m[data]; e.Uint32(m[8:])&loopback != 0 || kind == pflog || kind == enc {
			continue
		}
		at := func(off int) uint64 { return e.Uint64(m[data+off:]) }
		out = append(out, Link{
			Name:      string(dl[8 : 8+nameLen]),
			RxPackets: at(24), RxErrors: at(32), TxPackets: at(40), TxErrors: at(48), RxBytes: at(64), TxBytes: at(72), RxDropped: at(96), TxDropped: at(104),
		})
	}
	return out, nil
}

// Opposite is what the other end of a link has counted, whose name it is: what one end sends the other receives.
func (l Link) Opposite(name string) Link {
	return Link{
		Name: name, RxBytes: l.TxBytes, RxPackets: l.TxPackets, RxErrors: l.TxErrors, RxDropped: l.TxDropped,
		TxBytes: l.RxBytes, TxPackets: l.RxPackets, TxErrors: l.RxErrors, TxDropped: l.RxDropped,
	}
}
