//go:build linux || freebsd

package shim

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/brigd/brig/internal/logfile/logline"
	"golang.org/x/sys/unix"
)

var errGone = errors.New("the process has ended or was never started")

// runtimeError is what the OCI runtime said.
type runtimeError struct{ text string }

func (e runtimeError) Error() string { return e.text }

func failFrame(err error) []byte {
	kind := FailInternal
	var r runtimeError
	switch {
	case errors.As(err, &r):
		kind = FailRuntime
	case err == errGone:
		kind = FailNotFound
	}
	return AppendFields(nil, Fail, kind, strings.ReplaceAll(err.Error(), "\x00", ""))
}

func result(err error) []byte {
	if err != nil {
		return failFrame(err)
	}
	return AppendFields(nil, Ok)
}

// attach serves a client of the main process until one of the two has ended.
func (s *shim) attach(conn *os.File, flags string) {
	c := &client{conn: conn, stdout: strings.Contains(flags, FlagStdout), stderr: strings.Contains(flags, FlagStderr)}
	s.main.hub.add(c)
	s.stream(s.main, c, flags)
}

// exec runs a further process whose first client is this connection.
func (s *shim) exec(conn *os.File, id, flags string, argv []string) {
	p, err := newProc(id, strings.Contains(flags, FlagTTY), strings.Contains(flags, FlagStdin))
	if err != nil {
		conn.Write(failFrame(err))
		return
	}
	p.finish = func(*proc) { s.retire(id) }
	s.mu.Lock()
	if s.execs[id] != nil {
		s.mu.Unlock()
		conn.Write(failFrame(errors.New("exec " + id + " runs already")))
		return
	}
	s.execs[id] = p
	s.mu.Unlock()
	c := &client{conn: conn, stdout: strings.Contains(flags, FlagStdout), stderr: strings.Contains(flags, FlagStderr)}
	p.hub.add(c)
	name := id[:min(12, len(id))]
	if err := s.startExec(p, c, argv, name); err != nil {
		s.forget(id)
		conn.Write(failFrame(err))
		return
	}
	s.stream(p, c, flags)
}

// startExec tells the client that it is attached, starts the process, and queues its pid before all output.
func (s *shim) startExec(p *proc, c *client, argv []string, name string) error {
	c.mu.Lock()
	frames := c.out
	c.out = nil
	c.mu.Unlock()
	if _, err := c.conn.Write(frames); err != nil {
		return err
	}
	p.started = func(pid int) {
		c.mu.Lock()
		c.out = AppendFields(c.out, Ok, strconv.Itoa(pid))
		c.mu.Unlock()
	}
	return s.start(p, argv, name+".pid", name+".tty")
}

// forget drops an exec that could not be started.
func (s *shim) forget(id string) {
	s.mu.Lock()
	delete(s.execs, id)
	s.mu.Unlock()
}

// stream copies between a client and a process. It returns when the client is gone or has everything.
func (s *shim) stream(p *proc, c *client, flags string) {
	s.conns.Add(1)
	written := make(chan struct{})
	go func() {
		defer s.conns.Done()
		c.drain()
		close(written)
	}()
	stdin := strings.Contains(flags, FlagStdin)
	if stdin {
		p.feeder(1)
		defer p.feeder(-1)
	}
	var buf []byte
	for {
		kind, payload, grown, err := ReadFrame(c.conn, buf)
		buf = grown
		if err != nil {
			break
		}
		switch {
		case kind == Stdin && stdin:
			if p.input(payload) != nil {
				stdin = false // it reads no more; what still comes is dropped, as with a pipe whose reader is gone
			}
		case kind == CloseStdin && stdin:
			p.closeInput()
			stdin = false
		}
	}
	p.hub.remove(c)
	<-written
}

// listenConsole listens on a Unix socket in the current directory.
func listenConsole(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	os.Remove(name)
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, errors.New("listen on " + name + ": " + err.Error())
	}
	return fd, nil
}

// acceptMaster takes a terminal's master from the OCI runtime, which has connected and ended already (runc's docs/terminals.md).
func acceptMaster(listener int) (*os.File, error) {
	c, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return nil, errors.New("terminal: accept: " + err.Error())
	}
	defer unix.Close(c)
	data, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*4))
	_, n, _, _, err := unix.Recvmsg(c, data, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, errors.New("terminal: receive: " + err.Error())
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return nil, errors.New("terminal: no descriptor came")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("terminal: no descriptor came")
	}
	if err = unix.SetNonblock(fds[0], true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

// errNoPid is a pid file that an OCI runtime didn't write as it should.
var errNoPid = errors.New("its pid file holds no pid")

func readPid(name string) (int, error) {
	b, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return 0, errNoPid
	}
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0, errNoPid
	}
	return pid, nil
}

// logOf finds where an OCI runtime was told to log; "": nowhere.
func logOf(argv []string) string {
	if i := slices.Index(argv, "--log"); i >= 0 && i+1 < len(argv) {
		return argv[i+1]
	}
	return ""
}

// runtimeSaid returns the end of the OCI runtime's log, or how it ended if it wrote none.
func runtimeSaid(log string, ws syscall.WaitStatus) string {
	b, err := tail(log, 8<<10)
	if err == nil && len(b) > 0 {
		return string(b)
	}
	how := "exit code " + strconv.Itoa(ws.ExitStatus())
	if ws.Signaled() {
		how = "signal " + strconv.Itoa(int(ws.Signal()))
	}
	return "the OCI runtime failed and said nothing: " + how
}

// tail reads the last n bytes of a file.
func tail(name string, n int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(n, st.Size()))
	got, err := f.ReadAt(b, st.Size()-int64(len(b)))
	return b[:got], err
}

// openLog opens the log; a container whose log can't be opened runs without.
func openLog(path string, o logline.Options) *logline.Writer {
	if path == "" {
		return nil
	}
	w, err := logline.Open(path, o)
	if err != nil {
		os.Stderr.WriteString("log: " + err.Error() + "\n")
		return nil
	}
	return w
}
