package network

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// ports reserves host ports by binding them without listening: no other program can take a published port by mistake, and one that
// somebody has is noticed before the container runs. The kernel's rules redirect traffic before it reaches these sockets.
// Networks.mu guards it.
type ports struct {
	held map[brig.PortBinding]io.Closer // by key
}

func newPorts() *ports { return &ports{held: map[brig.PortBinding]io.Closer{}} }

// socket is a bound descriptor.
type socket int

// Close closes the descriptor.
func (s socket) Close() error { return syscall.Close(int(s)) }

// key is a binding without what doesn't tell two of them apart on the host.
func key(b brig.PortBinding) brig.PortBinding {
	ip := cmp.Or(b.HostIP, "0.0.0.0")
	return brig.PortBinding{Port: brig.Port{Proto: b.Proto}, HostIP: ip, HostPort: b.HostPort}
}

// reserve binds all of them or none and returns them with every HostIP and HostPort set.
func (p *ports) reserve(want []brig.PortBinding) (out []brig.PortBinding, err error) {
	defer func() {
		if err != nil {
			p.release(out)
		}
	}()
	for _, b := range want {
		got, err := p.one(b)
		if err != nil {
			return out, err
		}
		out = append(out, got)
	}
	return out, nil
}

// one reserves a single binding, trying its range in order.
func (p *ports) one(b brig.PortBinding) (brig.PortBinding, error) {
	b.HostIP = cmp.Or(b.HostIP, "0.0.0.0")
	ip, err := netip.ParseAddr(b.HostIP)
	if err != nil {
		return b, errs.New(errs.Invalid, "invalid host address %q of port %s", b.HostIP, b.Port)
	}
	if !ip.Is4() {
		return b, errs.New(errs.NotImplemented, "publishing port %s on the IPv6 address %s is not supported yet", b.Port, b.HostIP)
	}
	last := max(b.HostEnd, b.HostPort)
	for n := int(b.HostPort); n <= int(last); n++ {
		try := b
		try.HostPort, try.HostEnd = uint16(n), 0
		if try, err = p.bind(ip, try); err == nil {
			return try, nil
		}
	}
	return b, err
}

// bind takes one port; HostPort 0 lets the kernel choose.
func (p *ports) bind(ip netip.Addr, b brig.PortBinding) (brig.PortBinding, error) {
	if b.HostPort != 0 && p.taken(b) {
		return b, errs.New(errs.Internal, "Bind for %s failed: port is already allocated", net.JoinHostPort(b.HostIP, strconv.Itoa(int(b.HostPort))))
	}
	switch b.Proto {
	case "tcp":
		fd, port, err := bindTCP(ip, b.HostPort)
		if err != nil {
			return b, bindError(b, err)
		}
		b.HostPort = port
		p.held[key(b)] = fd
	case "udp":
		c, err := (&net.ListenConfig{}).ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(ip, b.HostPort).String())
		if err != nil {
			return b, bindError(b, err)
		}
		b.HostPort = uint16(c.LocalAddr().(*net.UDPAddr).Port)
		p.held[key(b)] = c
	default:
		return b, errs.New(errs.NotImplemented, "publishing %s ports is not supported yet", b.Proto)
	}
	return b, nil
}

func bindError(b brig.PortBinding, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return errs.New(errs.Internal, "failed to bind port %s:%d/%s: address already in use", b.HostIP, b.HostPort, b.Proto)
	}
	return errs.Wrap(err, "failed to bind port %s:%d/%s", b.HostIP, b.HostPort, b.Proto)
}

// taken reports whether a binding of ours has the same port on the same, or on all, addresses.
func (p *ports) taken(b brig.PortBinding) bool {
	k := key(b)
	for h := range p.held {
		if h.Proto == k.Proto && h.HostPort == k.HostPort && (h.HostIP == k.HostIP || h.HostIP == "0.0.0.0" || k.HostIP == "0.0.0.0") {
			return true
		}
	}
	return false
}

// hold binds again what live containers have published; all are tried.
func (p *ports) hold(bs []brig.PortBinding) error {
	var all error
	for _, b := range bs {
		if _, err := p.one(b); err != nil {
			all = errors.Join(all, err)
		}
	}
	return all
}

// release frees bindings; unknown ones are free already.
func (p *ports) release(bs []brig.PortBinding) {
	for _, b := range bs {
		k := key(b)
		if c := p.held[k]; c != nil {
			c.Close()
			delete(p.held, k)
		}
	}
}

// close frees all.
func (p *ports) close() {
	p.release(slices.Collect(maps.Keys(p.held)))
}

// bindTCP binds a TCP socket without listening on it and returns it and its port.
func bindTCP(ip netip.Addr, port uint16) (_ socket, bound uint16, err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return 0, 0, err
	}
	syscall.CloseOnExec(fd)
	defer func() {
		if err != nil {
			syscall.Close(fd)
		}
	}()
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(port), Addr: ip.As4()}); err != nil {
		return 0, 0, err
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, 0, err
	}
	return socket(fd), uint16(sa.(*syscall.SockaddrInet4).Port), nil
}
