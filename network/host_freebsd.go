package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	rib "golang.org/x/net/route"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
	prog "github.com/brigd/brig/internal/host"
	"github.com/brigd/brig/internal/kmod"
)

// host is bsdHost with the programs and system calls of a FreeBSD.
type host struct{ *bsdHost }

func newHost(cfg Config) *host {
	return &host{&bsdHost{commands: commands{cfg.Instance}, shared: cfg.Shared, log: cfg.Log, run: runProgram, routes: hostRoutes, kernel: kmod.Host(cfg.LoadModules)}}
}

func runProgram(ctx context.Context, stdin string, argv ...string) (string, error) {
	c := prog.Command{Argv: argv}
	if stdin != "" {
		c.Stdin = strings.NewReader(stdin)
	}
	out, err := c.Output(ctx)
	return string(out), err
}

// hostRoutes lists the prefixes that the host has routes to, which those of its addresses are among, but for those by one interface:
// route(4), NET_RT_DUMP.
func hostRoutes(skip string) (out []netip.Prefix, err error) {
	text, err := rib.FetchRIB(unix.AF_UNSPEC, rib.RIBTypeRoute, 0)
	if err != nil {
		return nil, errs.Wrap(err, "list routes")
	}
	list, err := rib.ParseRIB(rib.RIBTypeRoute, text)
	if err != nil {
		return nil, errs.Wrap(err, "read the list of routes")
	}
	index, own := -1, map[netip.Addr]bool{} // its own addresses have routes by lo0
	if i, err := net.InterfaceByName(skip); skip != "" && err == nil {
		index = i.Index
		addrs, err := i.Addrs()
		if err != nil {
			return nil, errs.Wrap(err, "list the addresses of %s", skip)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				own[p.Addr()] = true
			}
		}
	}
	for _, m := range list {
		r, ok := m.(*rib.RouteMessage)
		if !ok || r.Index == index || len(r.Addrs) <= unix.RTAX_DST {
			continue
		}
		a, bits := address(r.Addrs[unix.RTAX_DST], -1)
		if len(r.Addrs) > unix.RTAX_NETMASK && r.Addrs[unix.RTAX_NETMASK] != nil {
			_, bits = address(r.Addrs[unix.RTAX_NETMASK], 0)
		}
		if a.IsValid() && bits > 0 && !(own[a] && bits == a.BitLen()) && !a.IsLinkLocalUnicast() && !a.IsMulticast() {
			out = append(out, netip.PrefixFrom(a, bits).Masked())
		}
	}
	return out, nil
}

// address reads a socket address, and how many ones it begins with if it is a netmask; without the latter it counts as a host's.
func address(a rib.Addr, ones int) (netip.Addr, int) {
	var b []byte
	switch a := a.(type) {
	case *rib.Inet4Addr:
		b = a.IP[:]
	case *rib.Inet6Addr:
		b = a.IP[:]
	default:
		return netip.Addr{}, 0
	}
	if ones >= 0 {
		ones, _ = net.IPMask(b).Size()
	} else {
		ones = 8 * len(b)
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip, ones
}

// rulesEvery is how often the rules are looked at: pf tells nobody of changes.
const rulesEvery = 10 * time.Second

// departure is the kind of announcement that an interface is gone: IFAN_DEPARTURE, net/if.h.
const departure = 1

// watch gives a signal after an interface has gone, containers' aside, and now and then for pf; stop ends it.
func (h *host) watch() (events <-chan struct{}, stop func()) {
	ch, closing := make(chan struct{}, 1), make(chan struct{})
	signal := func() {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		slow := time.NewTicker(rulesEvery)
		defer slow.Stop()
		for {
			select {
			case <-slow.C:
				signal()
			case <-closing:
				return
			}
		}
	})
	f, err := routingSocket()
	if err != nil {
		h.log.Warn("watch what others change; it is looked for now and then", "err", err)
	} else {
		wg.Go(func() { h.listen(f, signal) })
	}
	return ch, func() {
		close(closing)
		if f != nil {
			f.Close() // ends the Read
		}
		wg.Wait()
	}
}

func routingSocket() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_ROUTE, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.AF_UNSPEC)
	if err != nil {
		return nil, errs.Wrap(err, "open a routing socket")
	}
	return os.NewFile(uintptr(fd), "route"), nil
}

// listen calls signal for each interface that goes, until f is closed.
func (h *host) listen(f *os.File, signal func()) {
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil { // more has come than the socket holds
			time.Sleep(10 * time.Millisecond)
			signal()
			continue
		}
		list, _ := rib.ParseRIB(rib.RIBTypeRoute, buf[:n]) // a message that can't be read is not one of those
		for _, m := range list {
			if a, ok := m.(*rib.InterfaceAnnounceMessage); ok && a.What == departure && !strings.HasPrefix(a.Name, h.linkPrefix()) && !strings.HasPrefix(a.Name, "epair") {
				signal()
			}
		}
	}
}
