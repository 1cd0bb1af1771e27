package keeper

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/survivor"
)

// Config is what Open needs.
type Config struct {
	Dir     string // the keeper's own; made with mode 0700. Its path may have 90 bytes
	Program string // path of brig-net
	Log     *slog.Logger
}

// Client speaks to the instance's keeper and sees to it that it runs while there is something to serve. All methods may be called
// from several goroutines; requests are made one after the other.
type Client struct {
	cfg  Config
	proc *survivor.Client // its lock guards what follows

	state    State  // the last that was set
	set      bool   // there was one
	reserved []Port // since then
}

// Open makes a client. No process is started yet.
func Open(cfg Config) *Client {
	c := &Client{cfg: cfg}
	c.proc = survivor.Open(survivor.Config{
		Name: "brig-net", Dir: cfg.Dir, Program: cfg.Program, Env: []string{"GOGC=50", "GODEBUG=madvdontneed=1"}, Protocol: protocol, Log: cfg.Log,
		Sync: c.sync, Idle: c.nothing,
	})
	return c
}

// Close lets go of the keeper, which goes on if its state isn't empty.
func (c *Client) Close() error {
	c.proc.Close()
	return nil
}

// Set replaces what is served and returns when it is. The error names what could not be served; all else is. s must not be changed
// afterwards: a keeper that is killed is told it again.
func (c *Client) Set(ctx context.Context, s State) error {
	c.proc.Lock()
	defer c.proc.Unlock()
	c.state, c.set, c.reserved = s, true, nil
	for range 2 { // one that just ends has not taken it
		err := c.proc.Connect(ctx, s.Empty())
		if errors.Is(err, survivor.ErrNone) {
			return nil
		}
		if err != nil {
			c.proc.Heal()
			return err
		}
		if err = c.sync(ctx); !errors.Is(err, survivor.ErrGone) {
			return err
		}
	}
	c.proc.Heal()
	return errs.New(errs.Unavailable, "brig-net ends when it is told what to serve; see %s", c.proc.LogPath())
}

// Reserve binds ports now, all or none, and returns them with HostPort set. They are held until a Set that doesn't name them.
// errors.Is(err, EADDRINUSE) where the host has one in use.
func (c *Client) Reserve(ctx context.Context, ports []Port) ([]Port, error) {
	c.proc.Lock()
	defer c.proc.Unlock()
	if len(ports) == 0 {
		return nil, nil
	}
	for range 2 {
		if err := c.proc.Connect(ctx, false); err != nil {
			c.proc.Heal()
			return nil, err
		}
		if !c.proc.Synced() {
			if err := c.sync(ctx); errors.Is(err, survivor.ErrGone) {
				continue
			} else if err != nil {
				c.cfg.Log.Warn("not all that was served before is served again", "err", err)
			}
		}
		var a answer
		err := c.proc.Ask(ctx, &request{Request: survivor.Request{Op: opReserve}, Ports: ports}, &a)
		if errors.Is(err, survivor.ErrGone) {
			continue
		}
		if err == nil {
			err = a.err()
		}
		if err != nil {
			return nil, err
		}
		c.reserved = append(c.reserved, a.Ports...)
		return a.Ports, nil
	}
	c.proc.Heal()
	return nil, errs.New(errs.Unavailable, "brig-net ends when it is asked for ports; see %s", c.proc.LogPath())
}

// sync tells the keeper all that it has to serve. The caller holds proc's lock and has connected.
func (c *Client) sync(ctx context.Context) error {
	q := &request{Request: survivor.Request{Op: opReserve}, Ports: c.reserved}
	if c.set {
		s := c.state
		s.Ports = slices.Concat(s.Ports, c.reserved)
		q = &request{Request: survivor.Request{Op: opSet}, State: &s}
	} else if len(c.reserved) == 0 {
		return nil
	}
	var a answer
	if err := c.proc.Ask(ctx, q, &a); err != nil {
		return err
	}
	c.proc.SetSynced()
	return a.err()
}

func (c *Client) nothing() bool { return c.state.Empty() && len(c.reserved) == 0 }
