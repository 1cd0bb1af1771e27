package testbed

import (
	"fmt"
	"os"
	"strings"
)

// Process is one of the host's. Dead: it has ended, and nobody has waited for it yet.
type Process struct {
	Pid, Parent int
	Args        string // separated by spaces
	Dead        bool
}

// Lives tells whether a process runs; one that nobody has waited for does not: a host's init may not reap.
func Lives(pid int) bool {
	p, err := processOf(pid)
	return err == nil && !p.Dead
}

// Children counts a process's, with those that it has not waited for yet.
func Children(pid int) (n int, err error) {
	all, err := Processes()
	for _, p := range all {
		if p.Parent == pid {
			n++
		}
	}
	return n, err
}

// Shims are the processes that stay with the containers of a brigd's root.
func Shims(root string) (out []Process, err error) {
	all, err := Processes()
	for _, p := range all {
		if strings.Contains(p.Args, "dir="+root+"/run") {
			out = append(out, p)
		}
	}
	return out, err
}

// processes finds those that name the root in their arguments.
func (s *Server) processes(string) (left []string, err error) {
	all, err := Processes()
	for _, p := range all {
		if p.Pid == os.Getpid() || s.cmd != nil && p.Pid == s.cmd.Process.Pid {
			continue
		}
		if strings.Contains(p.Args, s.Root+"/") || strings.HasSuffix(p.Args, s.Root) {
			left = append(left, fmt.Sprintf("process %d: %s", p.Pid, p.Args))
		}
	}
	return left, err
}
