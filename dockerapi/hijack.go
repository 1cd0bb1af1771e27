package dockerapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// The content types of streams. From API 1.42 on the framed one has its own.
const (
	rawStream   = "application/vnd.docker.raw-stream"
	muxedStream = "application/vnd.docker.multiplexed-stream"
)

// lingerTime is how long the end of a stream waits for the client to close its side, so that what the client still sends doesn't
// turn the end of the output into a connection reset.
const lingerTime = time.Second

// orphanTime is how long input that a vanished client has sent may take to reach the process.
const orphanTime = 2 * time.Second

// streamType is the content type for a stream of the given kind.
func streamType(v Version, framed bool) string {
	if framed && v >= 42 {
		return muxedStream
	}
	return rawStream
}

// A session is one attach or exec over a connection that is taken over from HTTP at the last moment: when the engine has registered
// the streams, or writes to them. Until then an error is an ordinary answer.
//
// It owns two goroutines from begin to end: one brings the client's bytes to the engine, the other waits for the client to vanish.
type session struct {
	a           *answer
	contentType string
	upgrade     bool // the client asked with Upgrade
	cancel      context.CancelCauseFunc

	once     sync.Once
	beginErr error
	conn     *hijackedConn
	in       io.Reader  // the client's bytes
	writing  sync.Mutex // one frame at a time

	stdin   *io.PipeReader
	feed    *io.PipeWriter
	fed     chan struct{} // closed when the engine has read the end of stdin
	pumped  chan struct{} // closed when the pump has ended
	stop    chan struct{} // closed when the engine has returned
	watcher net.Conn      // a second descriptor of the connection, for hangups only; nil if there can't be one
	wg      sync.WaitGroup
}

func newSession(a *answer, r *request, framed bool, cancel context.CancelCauseFunc) *session {
	s := &session{a: a, contentType: rawStream, cancel: cancel, fed: make(chan struct{}), pumped: make(chan struct{}), stop: make(chan struct{})}
	if _, s.upgrade = r.Header["Upgrade"]; s.upgrade {
		s.contentType = streamType(r.version, framed)
	}
	s.stdin, s.feed = io.Pipe()
	return s
}

// begin takes the connection over, answers 101 or 200 and starts the goroutines. Further calls return what the first did.
func (s *session) begin() error {
	s.once.Do(func() {
		if s.conn, s.beginErr = s.a.takeOver(); s.beginErr != nil {
			return
		}
		// What net/http has read already comes first. Its own reader isn't used for the rest: it ends the request's context at the
		// client's half-close.
		early, _ := s.conn.r.Peek(s.conn.r.Buffered())
		s.in = io.MultiReader(bytes.NewReader(early), s.conn.Conn)
		s.watcher = secondConn(s.conn.Conn) // first of all: it makes the descriptor block for a moment
		if s.beginErr = s.writeHead(); s.beginErr != nil {
			s.cancel(brig.ErrClientGone)
		}
		s.wg.Go(s.pump)
		if s.watcher != nil {
			s.wg.Go(s.watch)
		}
	})
	return s.beginErr
}

func (s *session) writeHead() error {
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + s.contentType + "\r\n"
	if s.upgrade {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + s.contentType + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
	}
	for _, name := range []string{"Api-Version", "Docker-Experimental", "Ostype", "Server"} {
		if v := s.a.Header().Get(name); v != "" {
			head += name + ": " + v + "\r\n"
		}
	}
	_, err := io.WriteString(s.conn, head+"\r\n")
	return err
}

// pump brings what the client sends to stdin. When the engine no longer wants it, the rest is thrown away.
func (s *session) pump() {
	defer close(s.pumped)
	_, err := io.Copy(s.feed, s.in)
	if errors.Is(err, io.ErrClosedPipe) {
		io.Copy(io.Discard, s.in) // ends with the client's end or the session's
		return
	}
	if err != nil {
		s.cancel(brig.ErrClientGone)
	}
	s.feed.CloseWithError(err) // nil is EOF
}

// watch cancels the session once the client has closed the connection altogether (not only its sending side), after its last input
// has been taken or has had its time.
func (s *session) watch() {
	if !waitHangup(s.watcher) {
		return
	}
	select {
	case <-s.fed:
	case <-s.stop:
	case <-time.After(orphanTime):
	}
	s.cancel(brig.ErrClientGone)
}

// end closes the connection and waits for the goroutines. It must be called once, after the engine has returned.
func (s *session) end(ctx context.Context) {
	close(s.stop)
	s.stdin.Close()
	if s.conn == nil {
		return
	}
	s.conn.CloseWrite()
	linger := time.NewTimer(lingerTime)
	defer linger.Stop()
	select {
	case <-s.pumped:
	case <-ctx.Done():
	case <-linger.C:
	}
	s.conn.Close()
	if s.watcher != nil {
		s.watcher.Close()
	}
	s.wg.Wait()
}

// input is what the engine reads as stdin. keys, if any, end it with brig.ErrDetached.
func (s *session) input(keys []byte) io.Reader {
	in := &inputReader{s: s, r: s.stdin}
	if len(keys) > 0 {
		in.r = &detachReader{r: s.stdin, keys: keys}
	}
	return in
}

// inputReader tells the session when the input has ended. Close makes a Read that waits return io.ErrClosedPipe; the engine may use it.
type inputReader struct {
	s    *session
	r    io.Reader
	once sync.Once
}

func (i *inputReader) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	if err != nil {
		i.once.Do(func() { close(i.s.fed) })
	}
	return n, err
}

func (i *inputReader) Close() error { return i.s.stdin.Close() }

// output is a writer of one of the streams: framed with that number, or raw for stream 0.
func (s *session) output(stream byte) io.Writer { return &outputWriter{s, stream} }

type outputWriter struct {
	s      *session
	stream byte
}

func (o *outputWriter) Write(b []byte) (int, error) {
	if err := o.s.begin(); err != nil {
		return 0, err
	}
	o.s.writing.Lock()
	defer o.s.writing.Unlock()
	if o.stream == 0 {
		return o.s.conn.Conn.Write(b)
	}
	return writeFrame(o.s.conn.Conn, o.stream, b)
}

// fail tells the client of an error after the stream has begun, as dockerd does: as output.
func (s *session) fail(framed bool, format string, args ...any) {
	var stream byte
	if framed {
		stream = streamStdout
	}
	fmt.Fprintf(s.output(stream), format, args...) // fails only if the client is gone
}

// run lets the engine work on the session and ends it. An error before the stream began is returned to be answered; a later one goes
// to report, which may write it to the stream.
func (s *session) run(ctx context.Context, work func(io brig.IO) error, io brig.IO, report func(error)) error {
	aborted := make(chan struct{})
	abort := context.AfterFunc(ctx, func() {
		defer close(aborted)
		s.once.Do(func() { s.beginErr = errs.As(errs.Canceled, context.Cause(ctx)) }) // too late to begin
		if s.conn != nil {
			s.conn.SetDeadline(time.Unix(1, 0)) // whatever waits on the connection fails now
		}
		s.stdin.CloseWithError(context.Cause(ctx))
	})
	defer func() {
		if !abort() {
			<-aborted
		}
	}()
	defer s.end(ctx)
	io.Attached = func() { s.begin() } // its error comes again with the first write
	err := work(io)
	if s.conn == nil {
		if err == nil {
			err = s.begin() // nothing was to be streamed
		}
		return err
	}
	if err != nil && !errors.Is(err, brig.ErrDetached) && ctx.Err() == nil {
		report(err)
	}
	return nil
}

// secondConn duplicates the connection's descriptor, so that it can be waited on while the first is read; nil if it can't be.
func secondConn(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	f, ok := c.(fileConn)
	if !ok {
		return nil
	}
	file, err := f.File()
	if err != nil {
		return nil
	}
	defer file.Close()
	dup, err := net.FileConn(file)
	if err != nil {
		return nil
	}
	return dup
}

// waitHangup returns true when both directions of the connection are shut (poll(2): POLLHUP) or it has failed, false when c is closed here.
func waitHangup(c net.Conn) bool {
	sc, ok := c.(syscallConn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	hangup := false
	err = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd)}} // POLLHUP and POLLERR are always asked for
		n, err := unix.Poll(p, 0)
		hangup = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
		return hangup
	})
	return err == nil && hangup
}
