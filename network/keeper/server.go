package keeper

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/survivor"
)

const (
	firstClient = 10 * time.Second // that a new keeper waits for a client
	linger      = time.Second      // that one with nothing to serve waits for more to do
)

// keeper is the process's state.
type keeper struct {
	log      *slog.Logger
	visitor  *visitor
	forwards atomic.Int32
	ended    chan struct{} // closed when there is nothing left to do
	wg       sync.WaitGroup

	mu        sync.Mutex // guards what follows
	ending    bool
	clients   map[net.Conn]bool
	current   net.Conn // the client that speaks for the instance, or nil
	timer     *time.Timer
	empty     bool // the last state was
	zones     map[string]*zone
	resolvers map[string]*resolver // by container
	desks     map[netip.AddrPort]*desk
	ports     map[hostKey]*port
	reserved  map[hostKey]bool // of ports: not yet in any state
}

// Run is the keeper: it serves in dir until ctx ends or there is nothing left to serve.
func Run(ctx context.Context, dir string, log *slog.Logger) (err error) {
	l, unlock, err := survivor.Listen(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	defer l.Close() // removes the file
	k := &keeper{
		log: log, empty: true, ended: make(chan struct{}), clients: map[net.Conn]bool{}, zones: map[string]*zone{},
		resolvers: map[string]*resolver{}, desks: map[netip.AddrPort]*desk{}, ports: map[hostKey]*port{}, reserved: map[hostKey]bool{},
	}
	if k.visitor, err = newVisitor(); err != nil {
		return err
	}
	k.timer = time.AfterFunc(firstClient, k.endIfIdle)
	k.wg.Go(func() { k.accept(l) })
	select {
	case <-ctx.Done():
	case <-k.ended:
	}
	l.Close()
	k.close()
	return nil
}

// close ends everything and waits for it.
func (k *keeper) close() {
	k.mu.Lock()
	k.ending = true
	k.timer.Stop()
	for c := range k.clients {
		c.Close()
	}
	for _, p := range k.ports {
		p.close()
	}
	var wg sync.WaitGroup
	for _, d := range k.desks {
		wg.Go(d.close)
	}
	for _, r := range k.resolvers {
		wg.Go(r.close)
	}
	k.mu.Unlock()
	wg.Wait()
	k.wg.Wait()
	k.visitor.close()
}

func (k *keeper) accept(l *net.UnixListener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			k.log.Warn("brigd can't connect just now", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		k.mu.Lock()
		if k.ending {
			c.Close()
		} else {
			k.clients[c] = true
			k.wg.Go(func() { k.serve(c) })
		}
		k.mu.Unlock()
	}
}

// serve answers one client's requests.
func (k *keeper) serve(c net.Conn) {
	defer k.leave(c)
	for {
		var q request
		if err := survivor.ReadMessage(c, &q); err != nil {
			return
		}
		a, end := k.do(c, &q)
		if err := survivor.WriteMessage(c, a); err != nil || end {
			return
		}
	}
}

// leave forgets a client. Nobody will say what becomes of ports that it only reserved, if nothing else is served.
func (k *keeper) leave(c net.Conn) {
	c.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.clients, c)
	if k.current != c || k.ending {
		return
	}
	k.current = nil
	if k.empty {
		for key := range k.reserved {
			k.free(key)
		}
		k.end()
	}
}

func (k *keeper) do(c net.Conn, q *request) (a *answer, end bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a = &answer{Head: survivor.Head{Protocol: protocol}}
	switch q.Op {
	case survivor.OpHello:
		a.PID = os.Getpid()
		return a, false
	case survivor.OpQuit:
		k.end()
		return a, true
	}
	if k.ending {
		return a, true
	}
	if k.current != c {
		k.supersede(c)
	}
	var err []error
	switch {
	case q.Op == opSet && q.State != nil:
		err = k.set(q.State)
	case q.Op == opReserve:
		var one error
		if a.Ports, one = k.reserve(q.Ports); one != nil {
			err = []error{one}
		}
	default:
		err = []error{errs.New(errs.Invalid, "unknown request %q", q.Op)}
	}
	for _, e := range err {
		k.log.Warn("not all could be done", "op", q.Op, "err", e)
	}
	a.Errors = failures(err)
	k.timer.Stop()
	if k.idle() {
		k.timer.Reset(linger)
	}
	return a, false
}

// supersede makes c the client that speaks for the instance. The caller holds mu.
func (k *keeper) supersede(c net.Conn) {
	if old := k.current; old != nil {
		old.SetWriteDeadline(time.Now().Add(time.Second))
		_ = survivor.WriteMessage(old, &survivor.Head{Protocol: protocol, Superseded: true}) // it learns of it by the end as well
		old.Close()
	}
	k.current = c
}

// idle: nothing is served. The caller holds mu.
func (k *keeper) idle() bool { return k.empty && len(k.reserved) == 0 }

func (k *keeper) endIfIdle() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.idle() {
		k.end()
	}
}

// end lets Run return. The caller holds mu.
func (k *keeper) end() {
	if !k.ending {
		k.ending = true
		close(k.ended)
	}
}
