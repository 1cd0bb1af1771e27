//go:build faults

package fault

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// plan is what the environment asks for.
type plan struct {
	mu     sync.Mutex
	name   string
	passes int // that are still to come
	log    *os.File
	file   string // holds the name of the point to die at, read anew at each point
}

// thePlan is read when the first point is passed.
var thePlan = sync.OnceValue(func() *plan {
	p := &plan{passes: 1}
	p.file = os.Getenv("BRIG_FAULT_FILE")
	name, n, counted := strings.Cut(os.Getenv("BRIG_FAULT"), ":")
	p.name = name
	if counted {
		var err error
		if p.passes, err = strconv.Atoi(n); err != nil {
			fmt.Fprintln(os.Stderr, "BRIG_FAULT:", err)
			os.Exit(2)
		}
	}
	if file := os.Getenv("BRIG_FAULT_LOG"); file != "" {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_CLOEXEC, 0o600)
		if err != nil {
			fmt.Fprintln(os.Stderr, "BRIG_FAULT_LOG:", err)
			os.Exit(2)
		}
		p.log = f
	}
	return p
})

// Point says that the process has come to the place of that name. It may not return.
func Point(name string) {
	p := thePlan()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log != nil {
		fmt.Fprintln(p.log, name)
	}
	if p.file != "" {
		if b, err := os.ReadFile(p.file); err == nil && string(b) == name {
			die()
		}
	}
	if name != p.name {
		return
	}
	if p.passes--; p.passes == 0 {
		die()
	}
}

// die doesn't return. The caller holds the plan's lock, so that nobody passes another point before the signal has come.
func die() {
	syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {}
}
