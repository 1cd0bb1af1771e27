//go:build linux || freebsd

package shim

import (
	"errors"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/brigd/brig/internal/logfile/logline"
	"golang.org/x/sys/unix"
)

// Config is what a shim is told on its command line.
type Config struct {
	Instance string // of the brig that made it; only there to be found by
	ID       string
	LogPath  string // "": no log
	Log      logline.Options
	Syslog   Syslog
	Hide     string // mount point to take out of the OCI runtime's sight; "": none
	OOMFile  string // file with an oom_kill counter; "": none
	TTY      bool
	Stdin    bool          // keep the main process's standard input open
	Sealed   bool          // RuntimeFD is open, and what it holds is executed in place of the file that a command names
	Sockets  int           // how many descriptors after those are for the main process, from its descriptor 3 on
	Linger   time.Duration // how long to stay without a process and without a connection; 0: a minute
}

// defaultLinger is how long a shim without a running process stays without a connection: the exit file says the rest.
const defaultLinger = 60 * time.Second

// grace is how long output may go on after the process's end before the end is told, as in dockerd.
const grace = 2 * time.Second

type shim struct {
	cfg   Config
	reap  *reaper
	main  *proc
	quit  chan struct{} // closed by the first ReqQuit
	bye   sync.Once
	conns sync.WaitGroup // of clients that output is on its way to

	mu    sync.Mutex
	execs map[string]*proc
	past  []string // execs that have ended and can still be asked about, oldest first
	open  int      // connections
	last  time.Time
}

// Run serves the listening socket fd in the current directory until it is told to quit, or until nothing is left to do.
func Run(cfg Config, fd int) error {
	debug.SetGCPercent(20)
	if err := adoptOrphans(); err != nil {
		return errors.New("become the reaper of what a runtime leaves: " + err.Error())
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return errors.New("listen: " + err.Error())
	}
	unix.CloseOnExec(fd)
	s := &shim{cfg: cfg, quit: make(chan struct{}), execs: map[string]*proc{}}
	s.reap = newReaper()
	if cfg.Sealed {
		unix.CloseOnExec(RuntimeFD)
		s.reap.program = "/proc/self/fd/" + strconv.Itoa(RuntimeFD)
	}
	var err error
	if s.main, err = newProc("", cfg.TTY, cfg.Stdin); err != nil {
		return err
	}
	s.main.inherited = inherited(cfg)
	if cfg.Sealed && cfg.Sockets > 0 { // a child's own /proc/self/fd has them in the program's place
		s.reap.program = "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(RuntimeFD)
	}
	s.main.sink = openLog(cfg.LogPath, cfg.Log)
	defer s.main.sink.Halt()
	if cfg.Syslog.Network != "" {
		s.main.remote = newRemote(cfg.Syslog)
		defer s.main.remote.close()
	}
	s.main.finish = s.mainEnded
	listener := os.NewFile(uintptr(fd), SocketName)
	go s.accept(listener)
	go s.unborn()
	<-s.quit
	s.reap.killRuntimes()
	s.conns.Wait()
	return nil
}

// inherited are the descriptors that the main process shall have beside its streams.
func inherited(cfg Config) (files []*os.File) {
	first := RuntimeFD
	if cfg.Sealed {
		first++
	}
	for fd := first; fd < first+cfg.Sockets; fd++ {
		unix.CloseOnExec(fd)
		files = append(files, os.NewFile(uintptr(fd), "socket"))
	}
	return files
}

func (s *shim) accept(l *os.File) {
	raw, err := l.SyscallConn()
	if err != nil {
		s.end()
		return
	}
	for {
		fd := -1
		err = raw.Read(func(lfd uintptr) bool {
			fd, _, err = unix.Accept4(int(lfd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return err != unix.EAGAIN
		})
		if fd < 0 {
			if err == nil {
				continue // the client went away again, or for once there was no descriptor left
			}
			s.end()
			return
		}
		s.mu.Lock()
		s.open++
		s.mu.Unlock()
		go s.serve(os.NewFile(uintptr(fd), ""))
	}
}

func (s *shim) end() { s.bye.Do(func() { close(s.quit) }) }

// serve answers the one request of a connection.
func (s *shim) serve(c *os.File) {
	defer func() {
		c.Close()
		s.mu.Lock()
		s.open--
		s.last = time.Now()
		s.mu.Unlock()
	}()
	kind, payload, _, err := ReadFrame(c, nil)
	if err != nil {
		return
	}
	f := append(Fields(payload), "", "", "")
	switch kind {
	case ReqAttach:
		s.attach(c, f[0])
	case ReqExec:
		s.exec(c, f[0], f[1], f[2:len(f)-3])
	case ReqWait:
		s.wait(c, f[0])
	case ReqQuit:
		s.stop(c)
	default:
		c.Write(s.answer(kind, f))
	}
}

// wait answers with a process's end.
func (s *shim) wait(c *os.File, id string) {
	p := s.find(id)
	if p == nil {
		c.Write(failFrame(errGone))
		return
	}
	<-p.done
	c.Write(p.exitFrame())
}

// answer handles the requests of one frame each way.
func (s *shim) answer(kind byte, f []string) []byte {
	switch kind {
	case ReqPing:
		pid, ended := s.main.running(), "" // in this order: a process that ends in between has both
		if s.main.over() {
			ended = "1"
		}
		return AppendFields(nil, Ok, strconv.Itoa(pid), ended)
	case ReqStart:
		if err := s.start(s.main, f[:len(f)-3], PidName, ConsoleName); err != nil {
			return failFrame(err)
		}
		return AppendFields(nil, Ok, strconv.Itoa(s.main.born)) // written before start returned, and never again
	case ReqResize:
		rows, _ := strconv.ParseUint(f[1], 10, 16)
		cols, _ := strconv.ParseUint(f[2], 10, 16)
		return result(s.find(f[0]).resize(uint16(rows), uint16(cols)))
	case ReqClose:
		p := s.find(f[0])
		if p == nil {
			return failFrame(errGone)
		}
		p.forsake()
		return AppendFields(nil, Ok)
	case ReqSignal:
		n, _ := strconv.Atoi(f[1])
		return result(s.find(f[0]).signal(n))
	}
	return AppendFields(nil, Fail, FailInternal, "unknown request")
}

func (s *shim) find(id string) *proc {
	if id == "" {
		return s.main
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.execs[id]
}

// stop kills the main process if it is still there and lets Run return once attached clients have all their output.
func (s *shim) stop(c *os.File) {
	s.main.abandon()
	if s.main.signal(int(unix.SIGKILL)) == nil {
		<-s.main.done
	}
	s.reap.killRuntimes()
	busy := ""
	if s.main.hub.busy() {
		busy = "1"
	}
	os.Remove(SocketName)
	if busy == "" {
		s.main.sink.Halt()
		// The peer may remove the directory as soon as it has the answer: nothing may be written there any more.
		s.main.noFile.Store(true)
	}
	c.Write(AppendFields(nil, Ok, busy))
	s.end()
}

// mainEnded writes the exit file, makes it durable once those who wait have been told, and ends the shim when nobody comes.
func (s *shim) mainEnded(p *proc) {
	endJail()
	p.exit.oom = oomKilled(s.cfg.OOMFile)
	if p.noFile.Load() {
		return
	}
	f, err := os.OpenFile(ExitName+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	f.Write(p.exit.json())
	if os.Rename(ExitName+".tmp", ExitName) != nil {
		f.Close()
		return
	}
	go s.settle(f)
}

// settle does the slow parts after the end. The file is whole already for every reader unless the machine loses power; a container that
// is removed at its exit is gone before the sync, which is why the sync waits for a moment.
func (s *shim) settle(f *os.File) {
	defer f.Close()
	<-s.main.done
	select {
	case <-s.quit:
		return
	case <-time.After(200 * time.Millisecond):
	}
	f.Sync()
	if d, err := os.Open("."); err == nil {
		d.Sync()
		d.Close()
	}
	s.main.copies.Wait()
	for {
		debug.FreeOSMemory()
		if s.lonely() {
			s.end()
			return
		}
	}
}

// unborn ends a shim that is never told to start its process: its brigd died before it could, and no other came.
func (s *shim) unborn() {
	for s.main.running() == 0 && !s.main.over() {
		if s.lonely() && s.main.running() == 0 && !s.main.over() {
			s.end()
			return
		}
	}
}

// lonely waits for the linger time and reports whether nobody was connected all the while. It returns true when the shim ends anyway.
func (s *shim) lonely() bool {
	linger := s.cfg.Linger
	if linger == 0 {
		linger = defaultLinger
	}
	select {
	case <-s.quit:
		return true
	case <-time.After(linger):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open == 0 && time.Since(s.last) >= linger
}

// maxPast bounds how many ended execs are remembered, for a daemon that lost its connection just then.
const maxPast = 16

// retire remembers an exec that has ended, and forgets the oldest.
func (s *shim) retire(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.past = append(s.past, id); len(s.past) > maxPast {
		delete(s.execs, s.past[0])
		s.past = append(s.past[:0], s.past[1:]...)
	}
}

// oomKilled reports whether the counter oom_kill in a cgroup's memory.oom_control (v1) or memory.events (v2) is above 0.
func oomKilled(path string) bool {
	if path == "" {
		return false
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	const key = "oom_kill "
	for len(b) > 0 {
		line := b
		if i := indexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		if len(line) > len(key) && string(line[:len(key)]) == key {
			return string(line[len(key):]) != "0"
		}
	}
	return false
}

func indexByte(b []byte, c byte) int {
	for i := range b {
		if b[i] == c {
			return i
		}
	}
	return -1
}
