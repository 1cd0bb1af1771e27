package metadata

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// Port is where the service listens on each gateway.
const Port = 1104

const (
	maxConns    = 256 // connections in all; each takes some 20 KiB
	maxOfSource = 32  // of one address
	fewConns    = 192 // from here on one address has fewOfSource: there is room for all
	fewOfSource = 2
)

// doors are the listeners, one on each gateway.
type doors struct {
	port   uint16
	known  func(source, gateway netip.Addr) bool
	server *http.Server
	log    *slog.Logger
	wg     sync.WaitGroup

	mu    sync.Mutex
	open  map[netip.Addr]net.Listener
	total int
	of    map[netip.Addr]int // connections by source
}

func newDoors(port uint16, h http.Handler, known func(source, gateway netip.Addr) bool, log *slog.Logger) *doors {
	return &doors{
		port: port, known: known, log: log, open: map[netip.Addr]net.Listener{}, of: map[netip.Addr]int{},
		server: &http.Server{
			Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second,
			MaxHeaderBytes: 4 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}
}

// set listens on exactly these addresses. The error names those where it can't; the others are served.
func (d *doors) set(want map[netip.Addr]bool) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for at, l := range d.open {
		if !want[at] {
			l.Close()
			delete(d.open, at)
		}
	}
	for at := range want {
		if d.open[at] != nil {
			continue
		}
		l, e := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, d.port)))
		if e != nil {
			err = errors.Join(err, errs.Wrap(e, "serve metadata at %s", at))
			continue
		}
		d.open[at] = l
		d.wg.Go(func() {
			if e := d.server.Serve(&door{l, d}); !errors.Is(e, net.ErrClosed) && !errors.Is(e, http.ErrServerClosed) {
				d.log.Warn("a listener has failed", "at", at, "err", e)
				d.mu.Lock()
				defer d.mu.Unlock()
				if d.open[at] == l {
					delete(d.open, at)
				}
			}
		})
	}
	return err
}

// close ends all listeners, and lets requests that run go on for grace.
func (d *doors) close(grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if d.server.Shutdown(ctx) != nil {
		d.server.Close()
	}
	d.wg.Wait()
}

// door is a listener that lets in pods alone, and not too many of their connections.
type door struct {
	*net.TCPListener
	d *doors
}

// Accept implements net.Listener. A stranger's connection ends without a byte.
func (l *door) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		source, gateway := plain(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()), plain(c.LocalAddr().(*net.TCPAddr).AddrPort().Addr())
		if l.d.known(source, gateway) && l.d.enter(source) {
			return &guest{TCPConn: c, leave: sync.OnceFunc(func() { l.d.leave(source) })}, nil
		}
		_ = c.SetLinger(0) // a reset: nothing of it is kept
		c.Close()
	}
}

func (d *doors) enter(source netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.total >= maxConns || d.of[source] >= maxOfSource || d.total >= fewConns && d.of[source] >= fewOfSource {
		return false
	}
	d.total++
	d.of[source]++
	return true
}

func (d *doors) leave(source netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total--
	if d.of[source]--; d.of[source] == 0 {
		delete(d.of, source)
	}
}

// guest is a connection that is counted.
type guest struct {
	*net.TCPConn
	leave func()
}

// Close implements net.Conn.
func (g *guest) Close() error {
	g.leave()
	return g.TCPConn.Close()
}
