package survivor

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Server answers brigd's requests, one at a time. The client that has asked last for anything but a hello speaks for the instance; the one
// before it is told so and its connection ends. Its lock guards what its owner serves, too.
type Server struct {
	Protocol int
	Log      *slog.Logger
	// Do carries out a request, and returns the answer, whose Head it leaves alone. The lock is held.
	Do func(op string, raw json.RawMessage) Answer
	// Left is called when the client that spoke for the instance has gone. The lock is held.
	Left func()

	sync.Mutex // guards what follows
	ending     bool
	clients    map[net.Conn]bool
	current    net.Conn // the client that speaks for the instance, or nil

	ended chan struct{}
	wg    sync.WaitGroup
}

// An Answer is what is said to a client: a struct that embeds a Head.
type Answer interface{ head() *Head }

func (h *Head) head() *Head { return h }

// watchLock is how often Start's watcher looks whether the directory is still there.
const watchLock = 2 * time.Second

// Start lets clients in by l, until Close. lock is the survivor's lock file: when it has been deleted, and with it the directory that brigd
// would look for this process in, nobody can find the process any more, and it ends.
func (s *Server) Start(l net.Listener, lock *os.File) {
	s.clients, s.ended = map[net.Conn]bool{}, make(chan struct{})
	s.wg.Go(func() { s.accept(l) })
	s.wg.Go(func() {
		t := time.NewTicker(watchLock)
		defer t.Stop()
		for {
			select {
			case <-s.ended:
				return
			case <-t.C:
			}
			if deleted(lock) {
				s.Log.Warn("the directory has been deleted; ending")
				s.Lock()
				s.End()
				s.Unlock()
			}
		}
	})
}

// deleted reports whether an open file has no name any more.
func deleted(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink == 0
}

// Ended is closed by End.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// End has the process end. The caller holds the lock.
func (s *Server) End() {
	select {
	case <-s.ended:
	default:
		close(s.ended)
	}
	s.ending = true
}

// Ending reports whether the process is to end. The caller holds the lock.
func (s *Server) Ending() bool { return s.ending }

// Alone reports whether no client speaks for the instance. The caller holds the lock.
func (s *Server) Alone() bool { return s.current == nil }

func (s *Server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.Log.Warn("brigd can't connect just now", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		s.Lock()
		if s.ending {
			c.Close()
		} else {
			s.clients[c] = true
			s.wg.Go(func() { s.serve(c) })
		}
		s.Unlock()
	}
}

// HangUp ends all connections. The listener has been closed. No request is carried out any more when Wait has returned.
func (s *Server) HangUp() {
	s.Lock()
	defer s.Unlock()
	s.End()
	for c := range s.clients {
		c.Close()
	}
}

// Wait waits until nobody is served, after HangUp.
func (s *Server) Wait() { s.wg.Wait() }

// serve answers one client's requests.
func (s *Server) serve(c net.Conn) {
	defer s.leave(c)
	for {
		var raw json.RawMessage
		if err := ReadMessage(c, &raw); err != nil {
			return
		}
		a, end := s.answer(c, raw)
		if a == nil {
			return
		}
		if err := WriteMessage(c, a); err != nil || end {
			return
		}
	}
}

func (s *Server) leave(c net.Conn) {
	c.Close()
	s.Lock()
	defer s.Unlock()
	delete(s.clients, c)
	if s.current == c {
		s.current = nil
		if !s.ending {
			s.Left()
		}
	}
}

func (s *Server) answer(c net.Conn, raw json.RawMessage) (a Answer, end bool) {
	var q Request
	if json.Unmarshal(raw, &q) != nil {
		return nil, true
	}
	s.Lock()
	defer s.Unlock()
	h := &Head{Protocol: s.Protocol}
	switch q.Op {
	case OpHello:
		h.PID = os.Getpid()
		return h, false
	case OpQuit:
		s.End()
		return h, true
	}
	if s.ending {
		return h, true
	}
	if old := s.current; old != nil && old != c {
		old.SetWriteDeadline(time.Now().Add(time.Second))
		_ = WriteMessage(old, &Head{Protocol: s.Protocol, Superseded: true}) // it learns of it by the end as well
		old.Close()
	}
	s.current = c
	a = s.Do(q.Op, raw)
	*a.head() = *h
	return a, false
}
