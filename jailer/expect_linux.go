package jailer

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// expecter shortens the wait for the lock that every move of a process into a cgroup takes. That lock, cgroup_threadgroup_rwsem
// (kernel/cgroup/cgroup.c), is cheap for readers, which fork and exit are, at the price that the first writer after a while waits for
// all processors to pass a quiescent state (kernel/rcu/sync.c): 10 to 25 ms, which are most of a container's start.
// A writer that comes within the next such period doesn't wait again. So a move that changes nothing, of brigd into the cgroup where it is,
// is made as soon as a process is expected to join a jail, beside the steps that come before that, and again for a second: on an idle host
// a whole wait is longer than those steps.
type expecter struct {
	procs string // our own cgroup.procs in one hierarchy; "" where it isn't found

	mu    sync.Mutex // guards what follows
	until time.Time  // the lock is to be kept cheap so long
	busy  bool       // somebody sees to it
	over  bool       // nobody is expected any more
	work  sync.WaitGroup
}

const (
	// warmFor is how long the lock is kept cheap after somebody was expected: commands come in rows, as those of a script do.
	warmFor = time.Second
	// warmEvery is how often a move is made meanwhile. The lock is cheap for some ten milliseconds after each. A move takes some 50 µs.
	warmEvery = 8 * time.Millisecond
)

// newExpecter finds this process in the first hierarchy of cgroupFile, /proc/self/cgroup (cgroups(7)), that g knows.
func newExpecter(g *cgroups, cgroupFile string) *expecter {
	f, err := os.Open(cgroupFile)
	if err != nil {
		return &expecter{}
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		p := strings.SplitN(s.Text(), ":", 3)
		if len(p) != 3 {
			continue
		}
		first, _, _ := strings.Cut(p[1], ",")
		if (p[1] == "") != g.v2 || (p[1] != "" && !g.has(first)) {
			continue
		}
		procs := filepath.Join(g.dir(first, p[2]), "cgroup.procs")
		if _, err := os.Stat(procs); err == nil {
			return &expecter{procs: procs}
		}
	}
	return &expecter{}
}

// expect returns at once. What it starts ends by itself, a second after the last call.
func (e *expecter) expect() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.until = time.Now().Add(warmFor)
	if e.procs == "" || e.busy || e.over {
		return
	}
	e.busy = true
	e.work.Go(func() {
		for e.wanted() {
			// A failure costs nothing but the time that was to be saved.
			_ = os.WriteFile(e.procs, []byte(strconv.Itoa(os.Getpid())), 0)
			time.Sleep(warmEvery)
		}
	})
}

// close waits for what expect has started, which is one move.
func (e *expecter) close() {
	e.mu.Lock()
	e.over = true
	e.mu.Unlock()
	e.work.Wait()
}

// wanted reports whether the lock is to be kept cheap still; if not, nobody sees to it any more.
func (e *expecter) wanted() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.busy = !e.over && time.Now().Before(e.until)
	return e.busy
}

// Expect says that a process is about to join a jail. See runtime.Host.
func (j *Jailer) Expect() { j.expected.expect() }

// Close ends what the Jailer does by itself. Jails, and calls that are under way, go on.
func (j *Jailer) Close() error {
	j.expected.close()
	return nil
}
