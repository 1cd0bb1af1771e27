package keeper

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
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

// keeper is the process's state. The Server's lock guards it from timer on.
type keeper struct {
	survivor.Server
	visitor  *visitor
	forwards atomic.Int32

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
	l, lock, err := survivor.Listen(ctx, dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	defer l.Close() // removes the file
	k := &keeper{
		empty: true, zones: map[string]*zone{}, resolvers: map[string]*resolver{}, desks: map[netip.AddrPort]*desk{}, ports: map[hostKey]*port{}, reserved: map[hostKey]bool{},
	}
	k.Server.Protocol, k.Server.Log, k.Server.Do, k.Server.Left = protocol, log, k.do, k.left
	if k.visitor, err = newVisitor(); err != nil {
		return err
	}
	k.timer = time.AfterFunc(firstClient, k.endIfIdle)
	k.Start(l, lock)
	select {
	case <-ctx.Done():
	case <-k.Ended():
	}
	l.Close()
	k.close()
	return nil
}

// close ends everything and waits for it.
func (k *keeper) close() {
	k.HangUp()
	k.Lock()
	k.timer.Stop()
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
	k.Unlock()
	wg.Wait()
	k.Wait()
	k.visitor.close()
}

// left is called when the client is gone. Nobody will say what becomes of ports that it only reserved, if nothing else is served.
func (k *keeper) left() {
	if k.empty {
		for key := range k.reserved {
			k.free(key)
		}
		k.End()
	}
}

// do carries out a request. The lock is held.
func (k *keeper) do(op string, raw json.RawMessage) survivor.Answer {
	var q request
	var err []error
	a := new(answer)
	bad := json.Unmarshal(raw, &q)
	switch {
	case bad != nil:
		err = []error{errs.As(errs.Invalid, bad)}
	case op == opSet && q.State != nil:
		err = k.set(q.State)
	case op == opReserve:
		var one error
		if a.Ports, one = k.reserve(q.Ports); one != nil {
			err = []error{one}
		}
	default:
		err = []error{errs.New(errs.Invalid, "unknown request %q", op)}
	}
	for _, e := range err {
		k.Log.Warn("not all could be done", "op", op, "err", e)
	}
	a.Errors = failures(err)
	k.timer.Stop()
	if k.idle() {
		k.timer.Reset(linger)
	}
	return a
}

// idle: nothing is served. The caller holds the lock.
func (k *keeper) idle() bool { return k.empty && len(k.reserved) == 0 }

func (k *keeper) endIfIdle() {
	k.Lock()
	defer k.Unlock()
	if k.idle() {
		k.End()
	}
}
