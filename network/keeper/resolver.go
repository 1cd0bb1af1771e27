package keeper

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/brigd/brig/internal/errs"
)

// Bounds, so that one container can't starve the others.
const (
	maxForwards  = 1024  // queries of one container that wait for upstream servers, as dockerd has it
	allForwards  = 16384 // of all containers; each holds a descriptor
	maxClients   = 128   // TCP connections of one container
	clientIdle   = 10 * time.Second
	maxQueryUDP  = 4096 // bytes of a query by UDP
	replyTimeout = 5 * time.Second
)

// buffers are for UDP messages of any length.
var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// resolver serves one container.
type resolver struct {
	from   Resolver
	view   atomic.Pointer[view]
	space  *space // nil: the keeper's own namespace
	udp    []*net.UDPConn
	tcp    []*net.TCPListener
	asked  atomic.Int32  // queries that wait for upstream servers
	all    *atomic.Int32 // those of all resolvers
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // guards clients
	clients map[net.Conn]bool
}

// openResolver opens a container's sockets. Nothing is answered before serve.
func openResolver(r Resolver, v *visitor, all *atomic.Int32, log *slog.Logger) (_ *resolver, err error) {
	out := &resolver{from: r, all: all, log: log.With("container", r.Container), clients: map[net.Conn]bool{}}
	out.ctx, out.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			out.close()
		}
	}()
	if r.Netns != "" {
		if out.space, err = openSpace(r.Netns, v); err != nil {
			return out, err
		}
		u, t, err := out.space.listen()
		if err != nil {
			return out, err
		}
		out.udp, out.tcp = append(out.udp, u), append(out.tcp, t)
		return out, out.space.redirect(u.LocalAddr().(*net.UDPAddr).AddrPort().Port(), t.Addr().(*net.TCPAddr).AddrPort().Port())
	}
	if r.shared() {
		return out, nil
	}
	for _, at := range r.Listen {
		u, t, err := listenAt(at)
		if err != nil {
			return out, err
		}
		out.udp, out.tcp = append(out.udp, u), append(out.tcp, t)
	}
	return out, nil
}

// serves reports whether the sockets are where r wants them.
func (r *resolver) serves(want *Resolver) bool {
	return r.from.same(want) && (r.space == nil || r.space.current())
}

// look makes v what the container sees.
func (r *resolver) look(want Resolver, zones map[string]*zone) error {
	var old map[string]*addresses
	if v := r.view.Load(); v != nil {
		old = v.own
	}
	v := &view{own: index(want.Names, old), internal: want.Internal, ndots: want.Ndots}
	for _, id := range want.Networks {
		if z := zones[id]; z != nil {
			v.zones = append(v.zones, z)
		}
	}
	var all error
	for i, s := range want.Servers {
		at, err := serverAt(s)
		if err != nil {
			all = errors.Join(all, errs.New(errs.Invalid, "container %s: invalid DNS server %q", want.Container, s))
			continue
		}
		up := server{at: at, fromHost: i < len(want.FromHost) && want.FromHost[i]}
		if r.space != nil && !up.fromHost && at.Addr() == dnsAddr {
			continue // itself
		}
		v.servers = append(v.servers, up)
	}
	r.from = want
	r.view.Store(v)
	return all
}

// serverAt reads "ADDR" or "ADDR:PORT", IPv6 addresses of the second kind in brackets.
func serverAt(s string) (netip.AddrPort, error) {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at, nil
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return netip.AddrPortFrom(a, 53), err
}

// serve begins to answer, once there is a view.
func (r *resolver) serve() {
	own := func(netip.Addr) *resolver { return r }
	for _, u := range r.udp {
		r.wg.Go(func() { serveUDP(u, own, r.pause) })
	}
	for _, t := range r.tcp {
		r.wg.Go(func() { serveTCP(t, own, r.pause) })
	}
}

// close ends all that serve began and waits for it.
func (r *resolver) close() {
	r.cancel()
	for _, u := range r.udp {
		u.Close()
	}
	for _, t := range r.tcp {
		t.Close()
	}
	r.mu.Lock()
	for c := range r.clients {
		c.Close()
	}
	r.clients = nil
	r.mu.Unlock()
	r.wg.Wait()
	if r.space != nil {
		r.space.close()
	}
}

// handle protects all containers from what one packet might do to the parser.
func (r *resolver) handle(raw []byte, tcp bool) (reply []byte, q *query) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("a DNS query made the keeper panic", "panic", p)
			reply, q = nil, nil
		}
	}()
	return r.view.Load().answer(raw, tcp)
}

// serveUDP answers queries until pause says that u is closed. whose tells whose a query is; nil: nobody's.
func serveUDP(u *net.UDPConn, whose func(netip.Addr) *resolver, pause func(error) bool) {
	buf := make([]byte, maxQueryUDP)
	for {
		n, from, err := u.ReadFromUDPAddrPort(buf)
		if err != nil {
			if !pause(err) {
				return
			}
			continue
		}
		r := whose(from.Addr())
		if r == nil {
			continue
		}
		reply, q := r.handle(buf[:n], false)
		if q != nil {
			q.raw = slices.Clone(q.raw)
			q.question = questionOf(q.raw)
			if reply = r.later(q, func(b []byte) { u.WriteToUDPAddrPort(b, from) }); reply == nil {
				continue
			}
		}
		if reply != nil {
			u.WriteToUDPAddrPort(reply, from) // the client asks again if it is lost
		}
	}
}

// pause waits after a socket's error; false: it is closed.
func (r *resolver) pause(err error) bool { return r.ctx.Err() == nil && pauseAfter(err, r.log) }

// pauseAfter waits a moment after a socket's error; false: it is closed.
func pauseAfter(err error, log *slog.Logger) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	log.Warn("a DNS socket failed; trying again", "err", err)
	time.Sleep(100 * time.Millisecond)
	return true
}

// later forwards q on a goroutine and gives the answer to send. With too many under way it returns a refusal.
func (r *resolver) later(q *query, send func([]byte)) []byte {
	if !r.take() {
		return refuse(q.raw, dns.RcodeRefused)
	}
	if !r.start(nil, func() {
		defer r.give()
		send(q.forward(r.ctx, r.view.Load().servers, r.dial))
	}) {
		r.give()
	}
	return nil
}

// start runs f on a goroutine that close waits for, with a client that close ends, or nil; false: it is closed, or has clients enough.
func (r *resolver) start(c net.Conn, f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clients == nil || c != nil && len(r.clients) >= maxClients {
		return false
	}
	if c != nil {
		r.clients[c] = true
	}
	r.wg.Go(f)
	return true
}

func (r *resolver) take() bool {
	if r.asked.Add(1) > maxForwards {
		r.asked.Add(-1)
		return false
	}
	if r.all.Add(1) > allForwards {
		r.give()
		return false
	}
	return true
}

func (r *resolver) give() {
	r.all.Add(-1)
	r.asked.Add(-1)
}

func (r *resolver) dial(ctx context.Context, network string, s server) (net.Conn, error) {
	if r.space == nil || s.fromHost {
		return new(net.Dialer).DialContext(ctx, network, s.at.String())
	}
	return r.space.dial(ctx, network, s.at)
}

// serveTCP is serveUDP for connections.
func serveTCP(l *net.TCPListener, whose func(netip.Addr) *resolver, pause func(error) bool) {
	for {
		c, err := l.Accept()
		if err != nil {
			if !pause(err) {
				return
			}
			continue
		}
		r := whose(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
		if r == nil || !r.start(c, func() {
			defer r.dismiss(c)
			r.serveClient(c)
		}) {
			c.Close()
		}
	}
}

func (r *resolver) dismiss(c net.Conn) {
	c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.clients, c)
}

// serveClient answers one connection's queries in their order.
func (r *resolver) serveClient(c net.Conn) {
	for {
		c.SetDeadline(time.Now().Add(clientIdle))
		raw, err := readFramed(c)
		if err != nil {
			return
		}
		reply, q := r.handle(raw, true)
		if q != nil {
			if !r.take() {
				reply = refuse(raw, dns.RcodeRefused)
			} else {
				reply = q.forward(r.ctx, r.view.Load().servers, r.dial)
				r.give()
			}
		}
		if reply == nil {
			return
		}
		c.SetDeadline(time.Now().Add(replyTimeout))
		if _, err := c.Write(framed(reply)); err != nil {
			return
		}
	}
}
