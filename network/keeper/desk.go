package keeper

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/brigd/brig/internal/errs"
)

// desk is an address of the keeper's own namespace where several containers ask: where a query comes from tells whose it is. What comes
// from nobody's address is passed over.
type desk struct {
	udp    *net.UDPConn
	tcp    *net.TCPListener
	whose  atomic.Pointer[map[netip.Addr]*resolver]
	closed atomic.Bool
	wg     sync.WaitGroup
}

// listenAt opens the sockets of a resolver or a desk. With an error it has closed them.
func listenAt(at netip.AddrPort) (*net.UDPConn, *net.TCPListener, error) {
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, err
	}
	t, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), uint16(u.LocalAddr().(*net.UDPAddr).Port))))
	if err != nil {
		u.Close()
		return nil, nil, err
	}
	return u, t, nil
}

// dropDesks closes those where nobody asks any more: a resolver may want the address for itself. The caller holds mu.
func (k *keeper) dropDesks(want []Resolver) {
	wanted := map[netip.AddrPort]bool{}
	for i := range want {
		for _, at := range want[i].Listen {
			wanted[at] = wanted[at] || want[i].shared()
		}
	}
	for at, d := range k.desks {
		if !wanted[at] {
			delete(k.desks, at)
			d.close()
		}
	}
}

// setDesks opens desks, and tells each who asks there by now. It comes after setResolvers. The caller holds mu.
func (k *keeper) setDesks(want []Resolver) (failed []error) {
	asking := map[netip.AddrPort]map[netip.Addr]*resolver{}
	names := map[netip.AddrPort][]string{}
	for i := range want {
		w := &want[i]
		r := k.resolvers[w.Container]
		if r == nil || !w.shared() {
			continue
		}
		for _, at := range w.Listen {
			if asking[at] == nil {
				asking[at] = map[netip.Addr]*resolver{}
			}
			names[at] = append(names[at], w.Container)
			for _, c := range w.Clients {
				if old := asking[at][c]; old != nil && old != r {
					failed = append(failed, errs.New(errs.Invalid, "containers %s and %s both ask from %s", old.from.Container, w.Container, c))
				}
				asking[at][c] = r
			}
		}
	}
	for at, who := range asking {
		d := k.desks[at]
		if d == nil {
			var err error
			if d, err = k.openDesk(at, who); err != nil {
				for _, id := range names[at] {
					failed = append(failed, errs.Wrap(err, "DNS of container %s", id))
				}
				continue
			}
			k.desks[at] = d
		}
		d.whose.Store(&who)
	}
	return failed
}

func (k *keeper) openDesk(at netip.AddrPort, who map[netip.Addr]*resolver) (*desk, error) {
	u, t, err := listenAt(at)
	if err != nil {
		return nil, err
	}
	d := &desk{udp: u, tcp: t}
	d.whose.Store(&who)
	pause := func(err error) bool { return !d.closed.Load() && pauseAfter(err, k.Log) }
	d.wg.Go(func() { serveUDP(u, d.ask, pause) })
	d.wg.Go(func() { serveTCP(t, d.ask, pause) })
	return d, nil
}

func (d *desk) ask(from netip.Addr) *resolver { return (*d.whose.Load())[from.Unmap()] }

func (d *desk) close() {
	d.closed.Store(true)
	d.udp.Close()
	d.tcp.Close()
	d.wg.Wait()
}

// shared reports whether the resolver is asked at desks.
func (r *Resolver) shared() bool { return r.Netns == "" && len(r.Clients) > 0 }

// same reports whether the sockets for a can be those for b.
func (r *Resolver) same(b *Resolver) bool {
	return r.Netns == b.Netns && r.shared() == b.shared() && (r.shared() || slices.Equal(r.Listen, b.Listen))
}
