package keeper

import (
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// held reports whether a socket that isn't a connection's is bound to the port at an address that at takes in, or is taken in by. With
// SO_REUSEADDR FreeBSD would let one listen on all addresses beside another that has the port on a single one, so each address is tried by
// itself: bind(2) then minds such sockets alone, not connections that wait for their end (in_pcb.c, in_pcblookup_local).
func held(at netip.AddrPort) bool {
	every := netip.IPv4Unspecified()
	if at.Addr().Is6() {
		every = netip.IPv6Unspecified()
	}
	tries := []netip.Addr{at.Addr(), every}
	if at.Addr().IsUnspecified() {
		list, _ := net.InterfaceAddrs()
		for _, a := range list {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() == at.Addr().Is4() && !p.Addr().IsLinkLocalUnicast() {
				tries = append(tries, p.Addr())
			}
		}
	}
	for _, a := range tries {
		fd, _, err := bindTCP(netip.AddrPortFrom(a, at.Port()), true)
		if err == nil {
			unix.Close(fd)
		} else if errors.Is(err, unix.EADDRINUSE) {
			return true
		}
	}
	return false
}
