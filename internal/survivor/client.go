// Package survivor is what brigd's long-lived companions share: processes of its own programs that go on while brigd is down, killed or
// upgraded. A companion holds a lock and listens on a socket in a directory of its own; the next brigd finds it there, replaces one that
// speaks another protocol, kills one that says nothing, and starts again one that has ended while there is something to serve.
package survivor

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/brigd/brig/internal/errs"
)

const (
	helloWait  = 10 * time.Second // for a survivor's first word; one that is silent is killed
	answerWait = time.Minute      // for the answer to a request; all that it serves may have to be opened
	healFirst  = 50 * time.Millisecond
	healLast   = 5 * time.Second
)

// DirFlag is a program's first argument: its directory follows.
const DirFlag = "--dir"

// ErrNone: none runs, and none was wanted.
var ErrNone = errors.New("none runs")

// ErrGone: the connection ended before the answer.
var ErrGone = errs.New(errs.Unavailable, "the process went away")

// Config is what Open needs.
type Config struct {
	Name     string   // brig-net
	Dir      string   // the process's own; made with mode 0700. Its path may have 90 bytes
	Program  string   // path of the program
	Args     []string // after DirFlag and Dir
	Env      []string
	Protocol int // of what is said besides hello and quit
	Log      *slog.Logger

	Sync func(ctx context.Context) error // tells a process that has just been connected to all that it has to serve. The lock is held
	Idle func() bool                     // there is nothing to serve: none has to run. The lock is held
}

// Client speaks to one survivor, and sees to it that it runs while there is something to serve. Its lock guards what its owner keeps, too.
type Client struct {
	cfg    Config
	ctx    context.Context // ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	sync.Mutex       // guards what follows, and is held during a request
	link       *link // nil: no connection
	healing    bool
	child      int   // pid of the process that was started last, if it is our child and not reaped, or 0
	past       []int // those of earlier ones that haven't been reaped
}

// Open makes a client. No process is started yet.
func Open(cfg Config) *Client {
	c := &Client{cfg: cfg}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Close lets go of the process, which goes on as long as it has something to serve.
func (c *Client) Close() {
	c.cancel()
	c.Lock()
	c.HangUp()
	c.Unlock()
	c.wg.Wait()
	c.Lock()
	defer c.Unlock()
	c.reap()
}

// AwaitEnd waits until no process runs, and reports whether that is so.
func (c *Client) AwaitEnd(wait time.Duration) bool {
	c.Lock()
	defer c.Unlock()
	return c.lockFree(wait)
}

// HangUp ends the connection, as a process does that ends. The caller holds the lock.
func (c *Client) HangUp() {
	if c.link != nil {
		c.link.conn.Close()
	}
}

// Active reports whether the process is connected to, or about to be. The caller holds the lock.
func (c *Client) Active() bool { return c.link != nil || c.healing }

// LogPath is where the process logs.
func (c *Client) LogPath() string { return filepath.Join(c.cfg.Dir, LogName) }

// Synced reports whether the process that is connected to has been told all that it has to serve. The caller holds the lock.
func (c *Client) Synced() bool { return c.link != nil && c.link.synced }

// SetSynced notes that it has been. The caller holds the lock, and has just asked.
func (c *Client) SetSynced() { c.link.synced = true }

// Ask sends the request q and decodes its answer into a. After an error there is no connection any more. The caller holds the lock, and
// has connected. ErrGone: the process may not have read q.
func (c *Client) Ask(ctx context.Context, q, a any) (err error) {
	l := c.link
	defer func() {
		if err != nil {
			l.conn.Close() // what is still to come answers nobody
			c.link = nil
			c.Heal()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	l.conn.SetWriteDeadline(time.Now().Add(answerWait))
	if err := WriteMessage(l.conn, q); err != nil {
		if errs.Is(err, errs.Invalid) {
			return err
		}
		return ErrGone
	}
	select {
	case raw := <-l.answers:
		return json.Unmarshal(raw, a)
	case <-l.gone:
		select {
		case raw := <-l.answers: // its last word
			return json.Unmarshal(raw, a)
		default:
			return ErrGone
		}
	case <-ctx.Done():
		return errs.Wrap(ctx.Err(), "wait for %s", c.cfg.Name)
	}
}

// link is one connection to a survivor.
type link struct {
	conn       net.Conn
	answers    chan json.RawMessage
	gone       chan struct{} // closed when the connection has ended
	synced     bool          // it knows what it has to serve. The Client's lock guards it
	superseded bool          // another client speaks for the instance. Read after gone
}

// follow reads answers until the connection's end.
func (c *Client) follow(l *link) {
	for {
		var raw json.RawMessage
		var head Head
		if err := ReadMessage(l.conn, &raw); err != nil || json.Unmarshal(raw, &head) != nil {
			break
		}
		if head.Superseded {
			l.superseded = true
			break
		}
		select {
		case l.answers <- raw:
		default: // nobody asked
		}
	}
	l.conn.Close()
	close(l.gone)
	c.Lock()
	defer c.Unlock()
	if c.link == l {
		c.link = nil
	}
	if l.superseded {
		c.cfg.Log.Warn("another brigd has taken " + c.cfg.Name + " over")
		return
	}
	c.Heal()
}

// Heal sees to it that what shall be served is served again, and that a process that has ended is reaped. It does not wait for it. The
// caller holds the lock.
func (c *Client) Heal() {
	if c.healing || c.ctx.Err() != nil || c.buried() && c.cfg.Idle() {
		return
	}
	c.healing = true
	c.wg.Go(c.heal)
}

// buried reports whether each process that was started has been reaped.
func (c *Client) buried() bool { return c.child == 0 && len(c.past) == 0 }

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
	c.Lock()
	defer c.Unlock()
	defer func() { c.healing = c.healing && !done }()
	c.reap()
	switch {
	case c.ctx.Err() != nil:
		return true
	case c.Synced():
		return len(c.past) == 0
	case c.cfg.Idle():
		return c.buried()
	}
	if err := c.Connect(c.ctx, false); err != nil {
		c.cfg.Log.Warn(c.cfg.Name+" is away; trying to start it again", "err", err)
		return false
	}
	err := c.cfg.Sync(c.ctx)
	if c.link == nil {
		return false
	}
	c.cfg.Log.Warn(c.cfg.Name+" was away, and serves again", "for", time.Since(began).Round(time.Millisecond), "err", err)
	return len(c.past) == 0
}
