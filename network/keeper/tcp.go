package keeper

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxConns    = 8192 // connections through one port
	dialTimeout = 10 * time.Second
)

// tcpRelay relays a listener's connections to its target.
type tcpRelay struct {
	l      *net.TCPListener
	target atomic.Pointer[netip.AddrPort]
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns map[*net.TCPConn]bool
}

// newTCPRelay listens beside what earlier connections left of the port.
func newTCPRelay(at netip.AddrPort, log *slog.Logger) (*tcpRelay, error) {
	l, err := net.ListenTCP("tcp"+family(at.Addr()), net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	return serveTCPRelay(l, log), nil
}

// serveTCPRelay takes l over. Until there is a target connections are closed.
func serveTCPRelay(l *net.TCPListener, log *slog.Logger) *tcpRelay {
	r := &tcpRelay{l: l, log: log, conns: map[*net.TCPConn]bool{}}
	r.target.Store(&netip.AddrPort{})
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.accept)
	return r
}

func (r *tcpRelay) port() uint16 { return uint16(r.l.Addr().(*net.TCPAddr).Port) }

func (r *tcpRelay) close() {
	r.cancel()
	r.l.Close()
	r.mu.Lock()
	for c := range r.conns {
		c.Close()
	}
	r.conns = nil
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *tcpRelay) accept() {
	for {
		c, err := r.l.AcceptTCP()
		if err != nil {
			if r.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			r.log.Warn("a published port takes no connections just now", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-r.ctx.Done():
			}
			continue
		}
		to := *r.target.Load()
		if !to.IsValid() || !r.admit(c) {
			reset(c)
			continue
		}
		r.wg.Go(func() {
			defer r.dismiss(c)
			r.relay(c, to)
		})
	}
}

// reset closes c so that the client learns of a failure, not of an end.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

func (r *tcpRelay) admit(c *net.TCPConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil || len(r.conns) >= 2*maxConns { // both ends count
		return false
	}
	r.conns[c] = true
	return true
}

func (r *tcpRelay) dismiss(c *net.TCPConn) {
	c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

// relay copies both ways until both have ended; the end of one is passed on.
func (r *tcpRelay) relay(client *net.TCPConn, to netip.AddrPort) {
	ctx, cancel := context.WithTimeout(r.ctx, dialTimeout)
	c, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	cancel()
	if err != nil {
		reset(client)
		return
	}
	server := c.(*net.TCPConn)
	if !r.admit(server) {
		server.Close()
		reset(client)
		return
	}
	defer r.dismiss(server)
	var back sync.WaitGroup
	back.Go(func() { pass(client, server) })
	pass(server, client)
	back.Wait()
}

// pass copies one way. An error ends both ways: what can't be delivered must not look like a whole.
func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		reset(to)
		reset(from)
		return
	}
	to.CloseWrite()
}
