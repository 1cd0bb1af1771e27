//go:build linux || freebsd

package shim

import (
	"cmp"
	"errors"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A reaper is the only caller of wait4 for the shim's children and for the orphans that fall to it as their subreaper.
type reaper struct {
	program string // executed in place of the first argument; "": that itself

	spawn sync.Mutex // held from fork to registration, and for each delivery: an exit never comes before its registration

	waiting  map[int]chan syscall.WaitStatus
	runtimes map[int]bool               // OCI runtime invocations that have not ended
	starting int                        // OCI runtime invocations under way, whose containers' pids are not known yet
	early    map[int]syscall.WaitStatus // exits seen meanwhile of pids that nobody has asked for yet
	wake     *sync.Cond                 // there are children again
	children bool
}

func newReaper() *reaper {
	r := &reaper{waiting: map[int]chan syscall.WaitStatus{}, runtimes: map[int]bool{}}
	r.wake = sync.NewCond(&r.spawn)
	go r.loop()
	return r
}

// loop waits in the kernel while there are children. It ends with the process.
func (r *reaper) loop() {
	for {
		pid, ws, err := reapOne()
		r.spawn.Lock()
		switch {
		case err == syscall.ECHILD:
			for !r.children {
				r.wake.Wait()
			}
			r.children = false
		case err == nil && pid > 0:
			r.deliver(pid, ws)
		}
		r.spawn.Unlock()
	}
}

func (r *reaper) deliver(pid int, ws syscall.WaitStatus) {
	delete(r.runtimes, pid)
	if ch := r.waiting[pid]; ch != nil {
		delete(r.waiting, pid)
		ch <- ws
	} else if r.starting > 0 {
		r.early[pid] = ws
	}
}

// run starts the OCI runtime with the files as its descriptors from 0 on and waits for its end. pid, called after a success, tells which
// process it left behind; that one's end comes on the channel.
func (r *reaper) run(argv []string, files []uintptr, hide string, pid func() (int, error)) (init int, end <-chan syscall.WaitStatus, ws syscall.WaitStatus, err error) {
	r.spawn.Lock()
	if r.starting++; r.early == nil {
		r.early = map[int]syscall.WaitStatus{}
	}
	child, err := spawn(cmp.Or(r.program, argv[0]), argv, files, hide)
	if err != nil {
		r.started()
		r.spawn.Unlock()
		return 0, nil, 0, errors.New("start the OCI runtime " + argv[0] + ": " + err.Error())
	}
	ran := make(chan syscall.WaitStatus, 1)
	r.waiting[child] = ran
	r.runtimes[child] = true
	r.children = true
	r.wake.Signal()
	r.spawn.Unlock()

	ws = <-ran
	r.spawn.Lock()
	defer r.spawn.Unlock()
	defer r.started()
	if ws != 0 {
		return 0, nil, ws, nil
	}
	if init, err = pid(); err != nil {
		return 0, nil, 0, err
	}
	ch := make(chan syscall.WaitStatus, 1)
	if ended, ok := r.early[init]; ok {
		delete(r.early, init)
		ch <- ended
	} else {
		r.waiting[init] = ch
	}
	return init, ch, 0, nil
}

// killRuntimes ends the OCI runtimes that have not come to an end by themselves. What they have made meanwhile is in the jail's cgroup.
func (r *reaper) killRuntimes() {
	r.spawn.Lock()
	defer r.spawn.Unlock()
	for pid := range r.runtimes {
		unix.Kill(pid, unix.SIGKILL) // ours, and not reaped: deliver takes it out first
	}
}

// started forgets early exits when no start is under way. Precondition: spawn is held.
func (r *reaper) started() {
	if r.starting--; r.starting == 0 {
		r.early = nil
	}
}
