//go:build linux || freebsd

package shim

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	farQueue   = 1 << 20                // bytes of messages that wait for the syslog at most; what comes then is lost
	farLine    = 16 << 10               // bytes after which a line is sent in pieces
	farTimeout = 2 * time.Second        // for a connection, and for a message
	farRetry   = 500 * time.Millisecond // between two tries
	farLast    = 500 * time.Millisecond // for what still waits when the shim ends
)

// Severities of RFC 5424, table 2.
const (
	severityErr  = 3
	severityInfo = 6
)

// A remote sends output as syslog messages. It never makes the process wait: what the syslog doesn't take in time is lost.
// It owns one goroutine, from newRemote to close.
type remote struct {
	cfg  Syslog
	wake chan struct{} // a note that there is something to send
	quit chan struct{}
	done chan struct{}

	mu    sync.Mutex
	queue [][]byte
	size  int // bytes in queue
}

func newRemote(cfg Syslog) *remote {
	r := &remote{cfg: cfg, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go r.run()
	return r
}

// close gives what waits a last chance.
func (r *remote) close() {
	close(r.quit)
	<-r.done
}

// A farStream splits one stream into messages. A nil one does nothing.
type farStream struct {
	r        *remote
	severity int
	rest     []byte
}

func (r *remote) stream(kind byte) *farStream {
	if r == nil {
		return nil
	}
	if kind == Stderr {
		return &farStream{r: r, severity: severityErr}
	}
	return &farStream{r: r, severity: severityInfo}
}

func (s *farStream) write(p []byte) {
	if s == nil {
		return
	}
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			s.rest = append(s.rest, p...)
			if len(s.rest) >= farLine {
				s.flush()
			}
			return
		}
		s.rest = append(s.rest, p[:i]...)
		p = p[i+1:]
		s.send()
	}
}

// flush sends a last line without a newline.
func (s *farStream) flush() {
	if s != nil && len(s.rest) > 0 {
		s.send()
	}
}

func (s *farStream) send() {
	m := s.r.message(s.severity, s.rest, time.Now())
	s.rest = s.rest[:0]
	r := s.r
	r.mu.Lock()
	if r.size+len(m) <= farQueue {
		r.queue = append(r.queue, m)
		r.size += len(m)
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// message makes a message of a line: RFC 5424 with the tag for APP-NAME and MSGID, RFC 3164, or as libc's syslog(3) writes it to a local socket.
func (r *remote) message(severity int, line []byte, at time.Time) []byte {
	c := &r.cfg
	pid := strconv.Itoa(os.Getpid())
	m := append(make([]byte, 0, len(line)+len(c.Tag)+len(c.Hostname)+80), '<')
	m = append(strconv.AppendInt(m, int64(c.Facility*8+severity), 10), '>')
	switch c.Format {
	case "rfc5424", "rfc5424micro":
		layout := time.RFC3339
		if c.Format == "rfc5424micro" {
			layout = "2006-01-02T15:04:05.000000Z07:00"
		}
		m = at.AppendFormat(append(m, "1 "...), layout)
		m = append(m, " "+c.Hostname+" "+c.Tag+" "+pid+" "+c.Tag+" - "...)
	case "rfc3164":
		m = append(at.AppendFormat(m, time.Stamp), " "+c.Hostname+" "+c.Tag+"["+pid+"]: "...)
	default:
		m = append(at.AppendFormat(m, time.Stamp), " "+c.Tag+"["+pid+"]: "...)
	}
	return append(append(m, line...), '\n')
}

// run sends the queue, in order, for as long as somebody listens.
func (r *remote) run() {
	defer close(r.done)
	var conn *os.File
	var last <-chan time.Time
	quit := r.quit
	for {
		m := r.first()
		if m == nil {
			if quit == nil {
				break
			}
			select {
			case <-r.wake:
			case <-quit:
				quit, last = nil, time.After(farLast)
			}
			continue
		}
		var err error
		if conn == nil {
			conn, err = dialSyslog(r.cfg.Network, r.cfg.Address)
		}
		if err == nil {
			conn.SetWriteDeadline(time.Now().Add(farTimeout))
			if _, err = conn.Write(m); err == nil || errors.Is(err, unix.EMSGSIZE) {
				r.drop(len(m))
				continue
			}
			conn.Close()
			conn = nil
		}
		select {
		case <-time.After(farRetry):
		case <-quit:
			quit, last = nil, time.After(farLast)
		case <-last:
			return
		}
	}
	if conn != nil {
		conn.Close()
	}
}

func (r *remote) first() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return nil
	}
	return r.queue[0]
}

// drop forgets the first message, of n bytes.
func (r *remote) drop(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue[0] = nil
	if r.queue = r.queue[1:]; len(r.queue) == 0 {
		r.queue = nil // or its array would grow for ever
	}
	r.size -= n
}

// dialSyslog connects without package net, which would double the shim.
func dialSyslog(network, address string) (*os.File, error) {
	family, kind := unix.AF_UNIX, unix.SOCK_STREAM
	var to unix.Sockaddr = &unix.SockaddrUnix{Name: address}
	switch network {
	case "unixgram":
		kind = unix.SOCK_DGRAM
	case "tcp", "udp":
		if network == "udp" {
			kind = unix.SOCK_DGRAM
		}
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		if a := ap.Addr().Unmap(); a.Is4() {
			family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: a.As4()}
		} else {
			family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: int(ap.Port()), Addr: a.As16()}
		}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err = unix.Connect(fd, to); err == unix.EINPROGRESS {
		err = connected(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "syslog"), nil
}

// connected waits for a connection that is under way.
func connected(fd int) error {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p, int(farTimeout/time.Millisecond))
	if err != nil {
		return err
	}
	if n == 0 {
		return unix.ETIMEDOUT
	}
	e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && e != 0 {
		err = unix.Errno(e)
	}
	return err
}
