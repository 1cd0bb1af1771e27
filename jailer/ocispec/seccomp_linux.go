package ocispec

import (
	"slices"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	profiles "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// seccomp sets the system call filter: Docker's default profile, a given one, a list of appc's, or none. It comes after the capabilities, on which
// the profile depends.
func seccomp(in *Input, s *specs.Spec) ([]string, error) {
	p := in.Jail.Spec.Seccomp
	if p == "unconfined" || p == "" && in.Jail.Spec.Privileged {
		return nil, nil
	}
	var err error
	if p == "" || p == "builtin" {
		s.Linux.Seccomp, err = profiles.GetDefaultProfile(s)
	} else {
		s.Linux.Seccomp, err = profiles.LoadProfile(p, s)
	}
	if f := in.Jail.Spec.Syscalls; f != nil && err == nil {
		err = listed(s.Linux.Seccomp, f, in.Host.Runc)
	}
	return nil, errs.As(errs.Invalid, err)
}

// What it takes to come from the OCI runtime to the program, and to its end: appc has an implementation retain that whatever the set says
// (ace.md, "os/linux/seccomp-retain-set"). A filter is loaded before privileges are dropped, unless new ones are forgone. Found by taking
// away one after the other, with crun 1.8 and runc 1.1.
var (
	lifeCalls = []string{
		"execve", "exit", "exit_group", "rt_sigreturn", "restart_syscall",
		"capget", "capset", "prctl", "setresuid", "setresgid", "setgroups", "close", "close_range", "write", "rt_sigprocmask", "rt_sigaction",
	}
	// runc is a Go program, and does more after it has loaded the filter.
	runcCalls = []string{
		"arch_prctl", "brk", "chdir", "chmod", "clone", "clone3", "dup3", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd2", "execveat",
		"faccessat", "faccessat2", "fchown", "fchownat", "fcntl", "fstat", "fstatfs", "futex", "getcwd", "getdents", "getdents64", "getpid", "getppid", "gettid",
		"getuid", "lseek", "lstat", "madvise", "mmap", "mprotect", "munmap", "nanosleep", "newfstatat", "openat", "pipe2", "poll", "prlimit64", "read",
		"readlinkat", "sched_yield", "set_tid_address", "setgid", "setsid", "setuid", "sigaltstack", "stat", "statfs", "tgkill",
	}
)

// listed makes profile, Docker's default for the container, the filter that f asks for.
func listed(profile *specs.LinuxSeccomp, f *brig.Syscalls, runc bool) error {
	action, errno := specs.ActKillProcess, (*uint)(nil)
	if f.Errno != "" {
		n, err := errnoOf(f.Errno)
		if err != nil {
			return err
		}
		action, errno = specs.ActErrno, &n
	}
	if f.Retain {
		names := slices.Concat(f.Names, lifeCalls)
		if runc {
			names = append(names, runcCalls...)
		}
		profile.DefaultAction, profile.DefaultErrnoRet = action, errno
		profile.Syscalls = []specs.LinuxSyscall{{Names: union(names), Action: specs.ActAllow}}
		return nil
	}
	var kept []specs.LinuxSyscall
	for _, c := range profile.Syscalls {
		c.Names = slices.DeleteFunc(slices.Clone(c.Names), func(n string) bool { return slices.Contains(f.Names, n) })
		if len(c.Names) > 0 {
			kept = append(kept, c)
		}
	}
	profile.Syscalls = append(kept, specs.LinuxSyscall{Names: union(slices.Clone(f.Names)), Action: action, ErrnoRet: errno})
	return nil
}

// union has every name once, sorted.
func union(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}

// errnoAliases are second names of errno(3) that the kernel's own table has no place for.
var errnoAliases = map[string]unix.Errno{"ENOTSUP": unix.ENOTSUP, "EWOULDBLOCK": unix.EWOULDBLOCK, "EDEADLOCK": unix.EDEADLOCK}

// errnoOf is the number of an error by its name in errno(3).
func errnoOf(name string) (uint, error) {
	if e, ok := errnoAliases[name]; ok {
		return uint(e), nil
	}
	const last = 133 // EHWPOISON
	for e := unix.Errno(1); e <= last; e++ {
		if unix.ErrnoName(e) == name {
			return uint(e), nil
		}
	}
	return 0, errs.New(errs.Invalid, "this host has no error %q for blocked system calls", name)
}
