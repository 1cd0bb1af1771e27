package keeper

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/brigd/brig/internal/errs"
)

const (
	helloWait  = 10 * time.Second // for a keeper's first word; one that is silent is killed
	answerWait = time.Minute      // for the answer to a request; all resolvers may have to be opened
	healFirst  = 50 * time.Millisecond
	healLast   = 5 * time.Second
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
	cfg    Config
	ctx    context.Context // ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // guards what follows, and is held during a request
	link     *link      // nil: no connection
	state    State      // the last that was set
	set      bool       // there was one
	reserved []Port     // since then
	healing  bool
	child    int   // pid of the keeper that was started last, if it is our child and not reaped, or 0
	past     []int // those of earlier ones that haven't been reaped
}

// Open makes a client. No process is started yet.
func Open(cfg Config) *Client {
	c := &Client{cfg: cfg}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Close lets go of the keeper, which goes on if its state isn't empty.
func (c *Client) Close() error {
	c.cancel()
	c.mu.Lock()
	if c.link != nil {
		c.link.conn.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reap()
	return nil
}

// Set replaces what is served and returns when it is. The error names what could not be served; all else is. s must not be changed
// afterwards: a keeper that is killed is told it again.
func (c *Client) Set(ctx context.Context, s State) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.set, c.reserved = s, true, nil
	for range 2 { // one that just ends has not taken it
		err := c.connect(ctx, s.Empty())
		if errors.Is(err, errNone) {
			return nil
		}
		if err != nil {
			c.startHealing()
			return err
		}
		if err = c.sync(ctx); !errors.Is(err, errGone) {
			return err
		}
	}
	c.startHealing()
	return errs.New(errs.Unavailable, "brig-net ends when it is told what to serve; see %s", filepath.Join(c.cfg.Dir, logName))
}

// Reserve binds ports now, all or none, and returns them with HostPort set. They are held until a Set that doesn't name them.
// errors.Is(err, EADDRINUSE) where the host has one in use.
func (c *Client) Reserve(ctx context.Context, ports []Port) ([]Port, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(ports) == 0 {
		return nil, nil
	}
	for range 2 {
		if err := c.connect(ctx, false); err != nil {
			c.startHealing()
			return nil, err
		}
		if !c.link.synced {
			if err := c.sync(ctx); errors.Is(err, errGone) {
				continue
			} else if err != nil {
				c.cfg.Log.Warn("not all that was served before is served again", "err", err)
			}
		}
		a, err := c.ask(ctx, &request{Op: opReserve, Ports: ports})
		if errors.Is(err, errGone) {
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
	c.startHealing()
	return nil, errs.New(errs.Unavailable, "brig-net ends when it is asked for ports; see %s", filepath.Join(c.cfg.Dir, logName))
}

// sync tells the keeper all that it has to serve. The caller holds mu and has connected.
func (c *Client) sync(ctx context.Context) error {
	q := &request{Op: opReserve, Ports: c.reserved}
	if c.set {
		s := c.state
		s.Ports = slices.Concat(s.Ports, c.reserved)
		q = &request{Op: opSet, State: &s}
	} else if len(c.reserved) == 0 {
		return nil
	}
	a, err := c.ask(ctx, q)
	if err != nil {
		return err
	}
	c.link.synced = true
	return a.err()
}

// errGone: the connection ended before the answer.
var errGone = errs.New(errs.Unavailable, "brig-net went away")

// ask sends one request and waits for its answer. After an error there is no connection any more. The caller holds mu.
func (c *Client) ask(ctx context.Context, q *request) (a *answer, err error) {
	l := c.link
	defer func() {
		if err != nil {
			l.conn.Close() // what is still to come answers nobody
			c.link = nil
			c.startHealing()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	l.conn.SetWriteDeadline(time.Now().Add(answerWait))
	if err := writeMessage(l.conn, q); err != nil {
		if errs.Is(err, errs.Invalid) {
			return nil, err
		}
		return nil, errGone
	}
	select {
	case a := <-l.answers:
		return a, nil
	case <-l.gone:
		select {
		case a := <-l.answers: // its last word
			return a, nil
		default:
			return nil, errGone
		}
	case <-ctx.Done():
		return nil, errs.Wrap(ctx.Err(), "wait for brig-net")
	}
}

// link is one connection to a keeper.
type link struct {
	conn       net.Conn
	answers    chan *answer
	gone       chan struct{} // closed when the connection has ended
	synced     bool          // the keeper knows what it has to serve. Client.mu guards it
	superseded bool          // another client speaks for the instance. Read after gone
}

// follow reads answers until the connection's end.
func (c *Client) follow(l *link) {
	for {
		a := new(answer)
		if err := readMessage(l.conn, a); err != nil {
			break
		}
		if a.Superseded {
			l.superseded = true
			break
		}
		select {
		case l.answers <- a:
		default: // nobody asked
		}
	}
	l.conn.Close()
	close(l.gone)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == l {
		c.link = nil
	}
	if l.superseded {
		c.cfg.Log.Warn("another brigd has taken brig-net over")
		return
	}
	c.startHealing()
}

// startHealing sees to it that what shall be served is served again, and that a keeper that has ended is reaped. The caller holds mu.
func (c *Client) startHealing() {
	if c.healing || c.ctx.Err() != nil || c.buried() && c.nothing() {
		return
	}
	c.healing = true
	c.wg.Go(c.heal)
}

// buried reports whether each keeper that was started has been reaped.
func (c *Client) buried() bool { return c.child == 0 && len(c.past) == 0 }

func (c *Client) nothing() bool { return c.state.Empty() && len(c.reserved) == 0 }

func (c *Client) heal() {
	began := time.Now()
	for wait := healFirst; ; wait = min(2*wait, healLast) {
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
		}
		if c.healed(began) {
			return
		}
	}
}

// healed makes one attempt; true: nothing is left to be done.
func (c *Client) healed(began time.Time) (done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.healing = c.healing && !done }()
	c.reap()
	switch {
	case c.ctx.Err() != nil:
		return true
	case c.link != nil && c.link.synced:
		return len(c.past) == 0
	case c.nothing():
		return c.buried()
	}
	if err := c.connect(c.ctx, false); err != nil {
		c.cfg.Log.Warn("brig-net is away; trying to start it again", "err", err)
		return false
	}
	err := c.sync(c.ctx)
	if c.link == nil {
		return false
	}
	c.cfg.Log.Warn("brig-net was away, and serves again", "for", time.Since(began).Round(time.Millisecond), "err", err)
	return len(c.past) == 0
}

// prepareDir makes the keeper's directory.
func (c *Client) prepareDir() error {
	if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
		return errs.Wrap(err, "make brig-net's directory")
	}
	return nil
}
