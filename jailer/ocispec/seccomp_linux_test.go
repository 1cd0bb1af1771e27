package ocispec

import (
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// verdict is what a filter without regard to arguments says of a call.
func verdict(s *specs.LinuxSeccomp, call string) (specs.LinuxSeccompAction, uint) {
	action, errno := s.DefaultAction, s.DefaultErrnoRet
	for _, r := range s.Syscalls {
		if slices.Contains(r.Names, call) && len(r.Args) == 0 {
			action, errno = r.Action, r.ErrnoRet
		}
	}
	if errno == nil {
		return action, 0
	}
	return action, *errno
}

func TestSyscalls(t *testing.T) {
	for _, c := range []struct {
		filter brig.Syscalls
		want   map[string]specs.LinuxSeccompAction
		errno  uint // of what is named in want and blocked by number
	}{
		{brig.Syscalls{Names: []string{"mkdir", "clone"}}, map[string]specs.LinuxSeccompAction{"mkdir": specs.ActKillProcess, "clone": specs.ActKillProcess, "read": specs.ActAllow}, 0},
		{brig.Syscalls{Names: []string{"mkdir"}, Errno: "ENOTSUP"}, map[string]specs.LinuxSeccompAction{"mkdir": specs.ActErrno, "read": specs.ActAllow}, 95},
		{brig.Syscalls{Retain: true, Names: []string{"read"}}, map[string]specs.LinuxSeccompAction{"mkdir": specs.ActKillProcess, "read": specs.ActAllow, "execve": specs.ActAllow}, 0},
		{brig.Syscalls{Retain: true, Names: []string{"read"}, Errno: "EACCES"}, map[string]specs.LinuxSeccompAction{"mkdir": specs.ActErrno, "read": specs.ActAllow}, 13},
	} {
		s, _, err := build(t, func(j *brig.Jail) { j.Spec.Syscalls = &c.filter })
		if err != nil {
			t.Fatal(err)
		}
		for call, want := range c.want {
			got, errno := verdict(s.Linux.Seccomp, call)
			if got != want || want == specs.ActErrno && errno != c.errno {
				t.Errorf("%+v: %s: %s %d", c.filter, call, got, errno)
			}
		}
	}
	// What Docker's profile blocks stays blocked beside a removed set.
	s, _, err := build(t, func(j *brig.Jail) { j.Spec.Syscalls = &brig.Syscalls{Names: []string{"mkdir"}} })
	if got, _ := verdict(s.Linux.Seccomp, "kexec_load"); err != nil || got != specs.ActErrno {
		t.Errorf("kexec_load: %s, %v", got, err)
	}
	_, _, err = build(t, func(j *brig.Jail) { j.Spec.Syscalls = &brig.Syscalls{Names: []string{"x"}, Errno: "ENOSUCH"} })
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `this host has no error "ENOSUCH"`) {
		t.Errorf("unknown error: %v", err)
	}
}
