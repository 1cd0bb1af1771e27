package metadata

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/survivor"
)

// Options are brig-mds's.
type Options struct {
	Dir       string // its own: socket, lock, logs. brigd's alone once it serves
	Published string // the directory of published pods
	UID, GID  int    // that it serves as; not root's
	Port      uint16 // 0: Port
}

// ParseOptions reads the arguments that a Publisher gives.
func ParseOptions(args []string) (o Options, ok bool) {
	if len(args) != 6 || args[0] != survivor.DirFlag || args[2] != publishedFlag || args[4] != userFlag {
		return o, false
	}
	u, g, _ := strings.Cut(args[5], ":")
	uid, err1 := strconv.Atoi(u)
	gid, err2 := strconv.Atoi(g)
	return Options{Dir: args[1], Published: args[3], UID: uid, GID: gid}, err1 == nil && err2 == nil
}

// accessLog is the name of the access log in Options.Dir; a second file has what was written before.
const accessLog = "access.log"

// retryDoors is how soon an address that couldn't be listened on is tried again.
const retryDoors = time.Second

// server is the process's state beside the service.
type server struct {
	log     *slog.Logger
	service *service
	doors   *doors
	ended   chan struct{} // closed when there is nothing left to do
	wg      sync.WaitGroup

	mu      sync.Mutex // guards what follows
	clients map[net.Conn]bool
	current net.Conn // the client that speaks for the instance, or nil
	ending  bool
	retry   *time.Timer
}

// Run is brig-mds: it serves what is published until ctx ends, or nobody is published and brigd is gone. It begins as root where brigd
// is, opens what it needs, and gives everything else up before it says its first word.
func Run(ctx context.Context, o Options, log *slog.Logger) (err error) {
	l, unlock, err := survivor.Listen(ctx, o.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	defer l.Close()
	access, err := openAccess(filepath.Join(o.Dir, accessLog))
	if err != nil {
		return err
	}
	defer access.Close()
	dir, err := os.OpenRoot(o.Published)
	if err != nil {
		return errs.Wrap(err, "open what is published")
	}
	defer dir.Close()
	if err := drop(o, log); err != nil {
		return err
	}
	if o.Port == 0 {
		o.Port = Port
	}
	p := newPods(dir, log)
	s := &server{log: log, service: newService(p, slog.New(slog.NewTextHandler(access, nil))), ended: make(chan struct{}), clients: map[net.Conn]bool{}}
	s.doors = newDoors(o.Port, s.service, func(source, gateway netip.Addr) bool { return len(p.at(source, gateway)) > 0 }, log)
	s.retry = time.AfterFunc(time.Hour, s.openDoors)
	s.retry.Stop()
	idle := time.AfterFunc(10*time.Second, s.endIfAlone) // brigd hasn't come
	s.wg.Go(func() { s.accept(l) })
	select {
	case <-ctx.Done():
	case <-s.ended:
	}
	idle.Stop()
	l.Close()
	s.close()
	return nil
}

// close ends everything and waits for it.
func (s *server) close() {
	s.mu.Lock()
	s.ending = true
	s.retry.Stop()
	for c := range s.clients {
		c.Close()
	}
	s.mu.Unlock()
	grace := time.Duration(0)
	if len(s.service.pods.uuids()) > 0 { // else there is nobody to answer
		grace = time.Second
	}
	s.doors.close(grace)
	s.wg.Wait()
}

func (s *server) accept(l *net.UnixListener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("brigd can't connect just now", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		if s.ending {
			c.Close()
		} else {
			s.clients[c] = true
			s.wg.Go(func() { s.serve(c) })
		}
		s.mu.Unlock()
	}
}

// serve answers one client's requests.
func (s *server) serve(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.clients, c)
		if s.current == c {
			s.current = nil
			s.endIfUnused()
		}
	}()
	for {
		var q request
		if err := survivor.ReadMessage(c, &q); err != nil {
			return
		}
		a, end := s.do(c, &q)
		if err := survivor.WriteMessage(c, a); err != nil || end {
			return
		}
	}
}

func (s *server) do(c net.Conn, q *request) (a *answer, end bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a = &answer{Head: survivor.Head{Protocol: protocol}}
	switch q.Op {
	case survivor.OpHello:
		a.PID = os.Getpid()
		return a, false
	case survivor.OpQuit:
		s.end()
		return a, true
	}
	if s.ending {
		return a, true
	}
	if old := s.current; old != nil && old != c {
		old.SetWriteDeadline(time.Now().Add(time.Second))
		_ = survivor.WriteMessage(old, &survivor.Head{Protocol: protocol, Superseded: true}) // it learns of it by the end as well
		old.Close()
	}
	s.current = c
	var err error
	switch {
	case q.Op == opSet && q.Keys != nil:
		if err = q.Keys.check(); err != nil {
			break
		}
		s.service.issuer.Store(&q.Issuer)
		s.service.keys.Store(q.Keys)
		err = s.service.pods.look(nil)
	case q.Op == opLook && s.service.keys.Load() != nil:
		err = s.service.pods.look(append([]string{}, q.UUIDs...))
	default:
		err = errs.New(errs.Invalid, "unknown request %q", q.Op)
	}
	if err = errors.Join(err, s.setDoors()); err != nil {
		s.log.Warn("not all could be done", "op", q.Op, "err", err)
		a.Error = err.Error()
	}
	return a, false
}

// setDoors listens where pods are; what doesn't work is tried again. The caller holds mu.
func (s *server) setDoors() error {
	err := s.doors.set(s.service.pods.gateways())
	if err != nil && !s.ending {
		s.retry.Reset(retryDoors)
	}
	return err
}

func (s *server) openDoors() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.setDoors() // it was logged when it failed first
}

func (s *server) endIfAlone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		s.endIfUnused()
	}
}

// endIfUnused ends what serves nobody. The caller holds mu, and has seen that no brigd is there.
func (s *server) endIfUnused() {
	if len(s.service.pods.uuids()) == 0 {
		s.end()
	}
}

// end lets Run return. The caller holds mu.
func (s *server) end() {
	if !s.ending {
		s.ending = true
		close(s.ended)
	}
}
