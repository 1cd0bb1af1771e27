//go:build linux || freebsd

package shim

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/brigd/brig/internal/logfile/logline"
	"golang.org/x/sys/unix"
)

// A proc is one process of the container that the shim started: the main one or an exec.
type proc struct {
	id      string
	tty     bool
	hub     hub
	sink    *logline.Writer // nil: not logged
	remote  *remote         // nil: not sent
	started func(pid int)   // called before any output is read
	finish  func(*proc)     // called when the output is complete, before done closes
	ready   chan struct{}   // closed when the process runs, or never will
	done    chan struct{}   // closed when it has ended and its output has been passed on
	noFile  atomic.Bool     // the run directory is being removed
	copies  sync.WaitGroup

	inherited []*os.File // that it gets beside its streams; closed here when it has them

	mu         sync.Mutex // guards what follows
	pid        int        // 0 before the start and after the end
	born       int        // the pid once it has had one
	held       *held      // valid while pid is not 0
	dead       bool       // has ended, or its start failed
	used       bool       // a start was asked for
	feeders    int        // clients whose input goes to it
	forsaken   bool       // its input ends with the last of them
	stdin      *os.File   // write end; the terminal's master with tty; nil when closed
	child      [3]*os.File
	outs       [2]*os.File // read ends; with tty outs[0] is the master
	rows, cols uint16

	exit exit // valid once done is closed
}

type exit struct {
	code int
	at   time.Time
	oom  bool
	err  string
}

// newProc makes the pipes of a process. Without stdin it reads /dev/null.
func newProc(id string, tty, stdin bool) (*proc, error) {
	p := &proc{id: id, tty: tty, ready: make(chan struct{}), done: make(chan struct{})}
	null, err := os.OpenFile("/dev/null", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if tty {
		p.child = [3]*os.File{null, null, null}
		return p, nil
	}
	p.child[0] = null
	if stdin {
		r, w, err := pipe(false)
		if err != nil {
			return nil, err
		}
		null.Close()
		p.child[0], p.stdin = r, w
	}
	for i := range p.outs {
		r, w, err := pipe(true)
		if err != nil {
			return nil, err
		}
		p.outs[i], p.child[i+1] = r, w
	}
	return p, nil
}

// pipe returns a pipe of which only our own end is non-blocking: the other one's flags are the container's.
func pipe(weRead bool) (r, w *os.File, err error) {
	var fds [2]int
	if err = unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, errors.New("pipe: " + err.Error())
	}
	ours := fds[1]
	if weRead {
		ours = fds[0]
	}
	if err = unix.SetNonblock(ours, true); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

// start runs argv, an OCI runtime's detached run or exec with --pid-file and, for a tty, --console-socket.
func (s *shim) start(p *proc, argv []string, pidFile, console string) error {
	p.mu.Lock()
	if p.used || len(argv) == 0 {
		p.mu.Unlock()
		return errors.New("already started")
	}
	p.used = true
	p.mu.Unlock()
	var files []uintptr
	for _, f := range slices.Concat(p.child[:], p.inherited) {
		files = append(files, f.Fd())
	}
	var master *os.File
	listener := -1
	if p.tty {
		var err error
		if listener, err = listenConsole(console); err != nil {
			return p.failed(err)
		}
		defer os.Remove(console)
		defer func() { unix.Close(listener) }()
	}
	pid, end, ws, err := s.reap.run(argv, files, s.cfg.Hide, func() (pid int, err error) {
		if p.tty {
			if master, err = acceptMaster(listener); err != nil {
				return 0, err
			}
		}
		return readPid(pidFile)
	})
	if err == nil && ws != 0 {
		err = runtimeError{runtimeSaid(logOf(argv), ws)}
		killLeft(pidFile)
	} else if errors.Is(err, errNoPid) {
		err = runtimeError{"the OCI runtime said that it succeeded, and started nothing: " + err.Error()}
	}
	os.Remove(pidFile)
	os.Remove(logOf(argv)) // there is one for each run and exec; nobody else reads it
	p.closeChild()
	if err != nil {
		if master != nil {
			master.Close()
		}
		return p.failed(err)
	}
	p.run(pid, master, end)
	return nil
}

// run begins to copy and to wait.
func (p *proc) run(pid int, master *os.File, end <-chan syscall.WaitStatus) {
	p.mu.Lock()
	p.pid, p.born = pid, pid
	p.held = hold(pid)
	if master != nil {
		p.outs[0], p.stdin = master, master
	}
	rows, cols := p.rows, p.cols
	p.mu.Unlock()
	if rows != 0 || cols != 0 {
		p.resize(rows, cols)
	}
	if p.started != nil {
		p.started(pid)
	}
	for i, f := range p.outs {
		if f != nil {
			p.copies.Add(1)
			go p.copyOut(f, byte(Stdout+i))
		}
	}
	close(p.ready)
	go p.wait(end)
}

// abandon marks a process whose start was never asked for as never to run.
func (p *proc) abandon() {
	p.mu.Lock()
	used := p.used
	p.used = true
	p.mu.Unlock()
	if !used {
		p.failed(errors.New("removed before it was started"))
	}
}

// failed marks p as never to run and releases what it held.
func (p *proc) failed(err error) error {
	p.closeChild()
	p.mu.Lock()
	p.dead = true
	if p.stdin != nil {
		p.stdin.Close()
		p.stdin = nil
	}
	for _, f := range p.outs {
		if f != nil {
			f.Close()
		}
	}
	p.mu.Unlock()
	p.exit = exit{code: 128, at: time.Now(), err: err.Error()}
	p.hub.end(p.exitFrame())
	close(p.ready)
	close(p.done)
	return err
}

func (p *proc) closeChild() {
	for _, f := range slices.Concat(p.child[:], p.inherited) {
		f.Close() // with a tty the same file three times; closing again does nothing
	}
}

// wait tells the end once the process has ended and its output is copied, or has gone on for the grace period: a process that was
// left behind may hold the pipe.
func (p *proc) wait(end <-chan syscall.WaitStatus) {
	ws := <-end
	at := time.Now()
	p.mu.Lock()
	p.pid, p.dead = 0, true
	p.held.release()
	if p.stdin != nil && !p.tty {
		p.stdin.Close()
		p.stdin = nil
	}
	p.mu.Unlock()
	p.hub.unbound()
	copied := make(chan struct{})
	go func() { p.copies.Wait(); close(copied) }()
	timer := time.NewTimer(grace)
	select {
	case <-copied:
	case <-timer.C:
	}
	timer.Stop()
	p.exit = exit{code: exitCode(ws), at: at}
	if p.finish != nil {
		p.finish(p)
	}
	p.hub.end(p.exitFrame())
	close(p.done)
}

func exitCode(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// copyOut copies one stream to the log and to all attached clients until its end.
func (p *proc) copyOut(f *os.File, kind byte) {
	defer p.copies.Done()
	stream := "stdout"
	if kind == Stderr {
		stream = "stderr"
	}
	split := logline.NewSplitter(stream)
	far := p.remote.stream(kind)
	buf := make([]byte, 16<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			p.sink.Write(split, buf[:n]) // a full disk loses lines, and stops nothing
			far.write(buf[:n])
			p.hub.write(kind, buf[:n])
		}
		if err != nil {
			break // io.EOF, or EIO from a terminal that nobody has open
		}
	}
	p.sink.Flush(split)
	far.flush()
	p.mu.Lock()
	defer p.mu.Unlock()
	f.Close()
	if p.stdin == f {
		p.stdin = nil
	}
}

// input writes to the process's standard input; before the start it waits. Errors mean that nobody reads any more.
func (p *proc) input(b []byte) error {
	<-p.ready
	p.mu.Lock()
	f := p.stdin
	p.mu.Unlock()
	if f == nil {
		return os.ErrClosed
	}
	_, err := f.Write(b)
	return err
}

// closeInput half-closes; a terminal stays as it is.
func (p *proc) closeInput() {
	<-p.ready
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stdin != nil && !p.tty {
		p.stdin.Close()
		p.stdin = nil
	}
}

// feeder counts a client whose input goes to the process, or one less of them.
func (p *proc) feeder(n int) {
	p.mu.Lock()
	p.feeders += n
	last := p.forsaken && p.feeders == 0
	p.mu.Unlock()
	if last {
		p.closeInput()
	}
}

// forsake ends the input with the last client that feeds it.
func (p *proc) forsake() {
	p.mu.Lock()
	p.forsaken = true
	p.mu.Unlock()
	p.feeder(0)
}

// resize sets the terminal's size, or notes it for the start.
func (p *proc) resize(rows, cols uint16) error {
	if p == nil {
		return errGone
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows, p.cols = rows, cols
	if p.dead {
		return errGone
	}
	if p.pid == 0 || !p.tty || p.outs[0] == nil {
		return nil
	}
	raw, err := p.outs[0].SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if cerr != nil {
		return errGone
	}
	return err
}

// signal sends a signal to the process that was held while it was the shim's own unreaped child, so that a pid that was given to another
// process meanwhile is never hit.
func (p *proc) signal(n int) error {
	if p == nil {
		return errGone
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == 0 {
		return errGone
	}
	if err := p.held.signal(n); err == unix.ESRCH {
		return errGone
	} else if err != nil {
		return errors.New("kill: " + err.Error())
	}
	return nil
}

func (p *proc) running() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

func (p *proc) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// over reports whether the process has ended, be it that its last output is still being passed on and nobody has been told.
func (p *proc) over() bool {
	p.mu.Lock()
	ending := p.born != 0 && p.pid == 0
	p.mu.Unlock()
	return ending || p.ended()
}

func (p *proc) exitFrame() []byte {
	oom := ""
	if p.exit.oom {
		oom = "1"
	}
	return AppendFields(nil, Exited, strconv.Itoa(p.exit.code), strconv.FormatInt(p.exit.at.UnixNano(), 10), oom, p.exit.err)
}

// json is brig.Exit as encoding/json writes it.
func (e *exit) json() []byte {
	b := append([]byte(`{"Code":`), strconv.Itoa(e.code)...)
	b = append(b, `,"Time":"`...)
	b = e.at.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","OOMKilled":`...)
	b = strconv.AppendBool(b, e.oom)
	b = append(b, `,"Error":`...)
	b = logline.AppendString(b, []byte(e.err))
	return append(b, "}\n"...)
}
