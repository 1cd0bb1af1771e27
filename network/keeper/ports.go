package keeper

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
)

// port is one of the host's ports that the keeper has.
type port struct {
	want Port
	fd   int       // a bound TCP socket, or -1
	tcp  *tcpRelay // or nil
	udp  *udpRelay // or nil; without a target it is a bound socket
	log  *slog.Logger
}

// openPort binds a port and, if it has a target, relays.
func openPort(want Port, log *slog.Logger) (*port, error) {
	p := &port{want: want, fd: -1, log: log.With("port", want.key().String())}
	if err := want.check(); err != nil {
		return nil, err
	}
	var err error
	if want.Proto == "udp" {
		p.udp, err = newUDPRelay(want.key().at, p.log)
		if err == nil {
			p.want.HostPort = p.udp.port()
		}
	} else {
		err = p.openTCP()
	}
	if err != nil {
		return nil, bindError(&want, err)
	}
	if err := p.aim(want.To); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// check refuses what no port can be.
func (p *Port) check() error {
	switch {
	case p.Proto != "tcp" && p.Proto != "udp":
		return errs.New(errs.NotImplemented, "publishing %s ports is not supported yet", p.Proto)
	case !p.HostIP.IsValid():
		return errs.New(errs.Invalid, "port %d/%s has no host address", p.HostPort, p.Proto)
	}
	return nil
}

func (k hostKey) String() string { return k.at.String() + "/" + k.proto }

func bindError(p *Port, err error) error {
	where := net.JoinHostPort(p.HostIP.String(), strconv.Itoa(int(p.HostPort))) + "/" + p.Proto
	if errors.Is(err, unix.EADDRINUSE) {
		return errs.New(errs.Internal, "failed to bind port %s: %w", where, unix.EADDRINUSE)
	}
	return errs.Wrap(err, "failed to bind port %s", where)
}

// openTCP binds without listening: connections to a port that the kernel redirects never come here, and others shall be refused.
// SO_REUSEADDR would let other programs bind the port too, so it is used only where connections of an earlier listener still wait
// for their end (TIME_WAIT), and then the port is held by listening on it.
func (p *port) openTCP() error {
	at := p.want.key().at
	fd, bound, err := bindTCP(at, false)
	if err == nil {
		p.fd, p.want.HostPort = fd, bound
		return nil
	}
	if !errors.Is(err, unix.EADDRINUSE) || held(at) {
		return err
	}
	if p.tcp, err = newTCPRelay(at, p.log); err != nil {
		return err
	}
	p.want.HostPort = p.tcp.port()
	return nil
}

// aim changes the target. Connections under way keep theirs; sessions of UDP, which have no end, lose it.
func (p *port) aim(to netip.AddrPort) error {
	p.want.To = to
	if p.udp != nil {
		p.udp.aim(to)
		return nil
	}
	if p.tcp == nil && to.IsValid() {
		l, err := listenOn(p.fd)
		p.fd = -1
		if err != nil {
			return bindError(&p.want, err)
		}
		p.tcp = serveTCPRelay(l, p.log)
	}
	if p.tcp != nil {
		p.tcp.target.Store(&to)
	}
	return nil
}

// close frees the port and ends its connections.
func (p *port) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
	}
	if p.tcp != nil {
		p.tcp.close()
	}
	if p.udp != nil {
		p.udp.close()
	}
}

// bindTCP binds a TCP socket and returns it and its port. reuse is SO_REUSEADDR.
func bindTCP(at netip.AddrPort, reuse bool) (_ int, bound uint16, err error) {
	family, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(at.Port()), Addr: unmapped4(at.Addr())})
	if at.Addr().Is6() {
		zone, err := zoneOf(at.Addr())
		if err != nil {
			return -1, 0, err
		}
		family, addr = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16(), ZoneId: zone}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if family == unix.AF_INET6 {
		if err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return -1, 0, err
		}
	}
	if reuse {
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return -1, 0, err
		}
	}
	if err = unix.Bind(fd, addr); err != nil {
		return -1, 0, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return -1, 0, err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		bound = uint16(sa.Port)
	case *unix.SockaddrInet6:
		bound = uint16(sa.Port)
	}
	return fd, bound, nil
}

func unmapped4(a netip.Addr) (out [4]byte) {
	if a = a.Unmap(); a.Is4() {
		out = a.As4()
	}
	return out
}

// zoneOf is the index of a link-local address's interface.
func zoneOf(a netip.Addr) (uint32, error) {
	if a.Zone() == "" {
		return 0, nil
	}
	i, err := net.InterfaceByName(a.Zone())
	if err != nil {
		return 0, err
	}
	return uint32(i.Index), nil
}

// listenOn makes a listener of a bound socket, which it takes over. Its connections may be waiting for their end when the port is
// opened again.
func listenOn(fd int) (*net.TCPListener, error) {
	f := os.NewFile(uintptr(fd), "port")
	defer f.Close() // the listener has a descriptor of its own
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// family is the suffix of a network's name in package net.
func family(a netip.Addr) string {
	if a.Is4() || a.Is4In6() {
		return "4"
	}
	return "6"
}
