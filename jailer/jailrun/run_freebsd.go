package jailrun

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/brigd/brig/jailer/jailctl"
	"github.com/brigd/brig/jailer/jailspec"
	"golang.org/x/sys/unix"
)

// Main executes one command line and returns the exit status: 0 once the process runs.
func Main(args []string) int {
	o, err := Parse(args)
	if err == nil {
		err = do(o)
	}
	if err == nil {
		return 0
	}
	switch {
	case o.Verb == "enter": // it has said so
	case o.Verb == "prepare":
		os.Stderr.WriteString(err.Error())
	case o.Log == "":
		os.Stderr.Write(logLine(err))
	default: // standard error is the container's
		_ = os.WriteFile(o.Log, logLine(err), 0o600) // nobody is left to tell
	}
	return 1
}

func do(o Options) error {
	switch o.Verb {
	case "run":
		return run(o)
	case "exec":
		return pass(o)
	case "prepare":
		return readyStack(o)
	default:
		return enter(o)
	}
}

// run makes the jail, and has a child enter it. What fails leaves nothing.
func run(o Options) (err error) {
	var b jailspec.Bundle
	if err := readJSON(BundleName, &b); err != nil {
		return err
	}
	var undo []func()
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				undo[i]()
			}
		}
	}()
	if err := links(&b); err != nil {
		return err
	}
	for i := range b.Mounts {
		m := &b.Mounts[i]
		if m.Sub != "" {
			if err := stage(m); err != nil {
				return fmt.Errorf("mount %s of %s on %s: %w", m.Sub, m.From, m.Target, err)
			}
			undo = append(undo, func() { unix.Unmount(m.Stage, unix.MNT_FORCE); os.Remove(m.Stage) })
			m.From = m.Stage
		}
		at, err := mount(&b, m)
		if err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.Type, m.Target, err)
		}
		undo = append(undo, func() { unix.Unmount(at, unix.MNT_FORCE) })
	}
	if err := makeCwd(&b); err != nil {
		return err
	}
	params, then := b.Stages()
	jid, err := jailctl.Set(iovecs(params), jailctl.Create)
	if err != nil {
		return fmt.Errorf("make the jail: %w", err)
	}
	undo = append(undo, func() { jailctl.Remove(jid) })
	if b.Alone {
		if err := prepare(o); err != nil {
			return fmt.Errorf("prepare the jail's network stack: %w", err)
		}
		if _, err := jailctl.Set(iovecs(append(then, jailspec.Param{Name: "jid", Kind: jailspec.Int, Int: int32(jid)})), jailctl.Update); err != nil {
			return fmt.Errorf("set what the jail may do: %w", err)
		}
	}
	undo = append(undo, func() { jailctl.RemoveRules("jail:" + b.Name + ":") }) // also of those before one that fails
	for _, r := range b.Rules {
		if err := jailctl.AddRule(r); err != nil {
			return err
		}
	}
	if b.CPUs != "" {
		mask, err := jailctl.CPUMask(b.CPUs, runtime.NumCPU())
		if err != nil {
			return err
		}
		if err := jailctl.SetCPUs(jid, mask); err != nil {
			return err
		}
	}
	return pass(o)
}

func iovecs(params []jailspec.Param) (out [][]byte) {
	for _, p := range params {
		name, value := p.Iov()
		out = append(out, name, value)
	}
	return out
}

// prepare has a child ready the network stack of a jail that has one of its own, which nobody else does.
func prepare(o Options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o.Verb = "prepare"
	said, err := exec.Command(self, o.Args()...).CombinedOutput()
	if err != nil && len(said) > 0 {
		return errors.New(string(said))
	}
	return err
}

// readyStack is prepare's child.
func readyStack(o Options) error {
	jid, err := jailctl.ID(o.Name)
	if err != nil {
		return fmt.Errorf("find jail %s: %w", o.Name, err)
	}
	if err := errors.Join(jailctl.Untraceable(), jailctl.Attach(jid)); err != nil {
		return err
	}
	return errors.Join(jailctl.Loopback(), jailctl.OpenPorts())
}

// pass has a child do the rest: who enters a jail can't clean up outside of it any more.
func pass(o Options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o.Verb = "enter"
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	p, err := os.StartProcess(self, append([]string{self}, o.Args()...), &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, w}})
	w.Close()
	if err != nil {
		return err
	}
	said, err := io.ReadAll(r) // until it executes, or ends
	if err == nil && string(said) == ready {
		return nil // our parent adopts it
	}
	st, werr := p.Wait()
	if err = errors.Join(err, werr); err == nil {
		err = errors.New(cmp.Or(strings.TrimPrefix(string(said), ready), "brig-jail ended with "+st.String()))
	}
	return err
}

// ready is what enter says last before it executes.
const ready = "\x00"

// enter attaches to the jail and becomes the process there. Everything on the host that is needed is opened before; what it says goes to
// descriptor 3, for descriptor 2 is the container's.
func enter(o Options) error {
	report := os.NewFile(3, "report")
	unix.CloseOnExec(3)
	err := attachAndExecute(o, report)
	report.WriteString(err.Error())
	return err
}

func attachAndExecute(o Options, report *os.File) error {
	p, err := processOf(o)
	if err != nil {
		return err
	}
	pid, err := os.OpenFile(o.PidFile, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer pid.Close()
	var console *net.UnixConn
	if o.Console != "" {
		if console, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: o.Console, Net: "unix"}); err != nil {
			return err
		}
		defer console.Close()
	}
	jid, err := jailctl.ID(o.Name)
	if err != nil {
		return fmt.Errorf("find jail %s: %w", o.Name, err)
	}
	if err := jailctl.Untraceable(); err != nil {
		return err
	}
	if console == nil {
		for fd := range 3 { // as OCI runtimes do, so that /dev/stdout can be opened by its user
			unix.Fchown(fd, int(p.UID), -1)
		}
	}
	if err := assume(p); err != nil {
		return err
	}
	if err := jailctl.Attach(jid); err != nil {
		return err
	}
	if p.NoNewPrivileges {
		if err := jailctl.NoNewPrivileges(); err != nil {
			return err
		}
	}
	slave := -1
	if console != nil {
		if slave, err = terminal(console, p); err != nil {
			return err
		}
	}
	syscall.Umask(0o022)
	signal.Notify(make(chan os.Signal, 1)) // what is handled here has its default then: brigd may have been started with signals that are ignored
	if err := setLimits(p.Limits); err != nil {
		return err
	}
	if _, err = pid.WriteString(strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	return execute(p, slave, report)
}

// processOf reads what to execute.
func processOf(o Options) (*jailspec.Process, error) {
	if o.Process != "" {
		p := new(jailspec.Process)
		return p, readJSON(o.Process, p)
	}
	var b jailspec.Bundle
	err := readJSON(BundleName, &b)
	return &b.Main, err
}

// execute makes this process the one of p, in a session of its own; slave is its terminal, or -1. It returns with an error alone: those of execvp(3).
//
// There is no fork. The kernel waits for what is still to be read from a terminal when the last descriptor is closed, but not when a session's leader
// ends while somebody else has it open (sys/kern/tty.c of 13.2, ttydev_close with FREVOKE): what a short process has printed would be lost.
func execute(p *jailspec.Process, slave int, report *os.File) error {
	if err := unix.Access(p.Cwd, 0); err != nil {
		return fmt.Errorf("chdir to cwd %q: %w", p.Cwd, err)
	}
	path, err := program(p)
	if err == nil {
		err = become(p, slave)
	}
	if err == nil {
		report.WriteString(ready)
		err = syscall.Exec(path, p.Args, p.Env)
	}
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return fmt.Errorf("executable file `%s` not found in $PATH: no such file or directory", p.Args[0])
	}
	return fmt.Errorf("exec %s: %w", p.Args[0], err)
}

// assume gives this process p's groups, and its user as the real and the saved one. It is root as yet, and may enter a jail; to be p's user there then
// needs no privilege, which a jail's root may not have (allow.nosuser).
func assume(p *jailspec.Process) error {
	groups := make([]int, len(p.Groups))
	for i, g := range p.Groups {
		groups[i] = int(g)
	}
	if err := syscall.Setgroups(groups); err != nil {
		return os.NewSyscallError("setgroups", err)
	}
	if err := unix.Setresgid(int(p.GID), int(p.GID), int(p.GID)); err != nil {
		return os.NewSyscallError("setresgid", err)
	}
	return os.NewSyscallError("setresuid", unix.Setresuid(int(p.UID), 0, int(p.UID)))
}

// become gives this process p's session, terminal, user and directory.
func become(p *jailspec.Process, slave int) error {
	if _, err := syscall.Setsid(); err != nil {
		return os.NewSyscallError("setsid", err)
	}
	if slave >= 0 {
		for fd := range 3 {
			if err := unix.Dup2(slave, fd); err != nil {
				return os.NewSyscallError("dup2", err)
			}
		}
		unix.Close(slave)
		if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
			return os.NewSyscallError("TIOCSCTTY", err)
		}
	}
	if err := unix.Setresuid(int(p.UID), int(p.UID), int(p.UID)); err != nil {
		return os.NewSyscallError("setresuid", err)
	}
	return syscall.Chdir(p.Cwd)
}

// program finds the place of the program that can be executed. It is looked for before this process has the terminal: if it doesn't come to execute it
// takes that with it, since the end of a session's leader revokes its terminal.
func program(p *jailspec.Process) (string, error) {
	first := error(unix.ENOENT)
	for _, path := range candidates(p) {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		switch {
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0:
			return path, nil
		case err == nil:
			err = unix.EACCES
		}
		if first == unix.ENOENT && err != unix.ENOTDIR {
			first = err
		}
	}
	return "", first
}

var limitNumbers = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// setLimits sets them on this process; its child inherits them. syscall's Setrlimit, unlike unix's, is known to the fork of it.
func setLimits(limits []jailspec.Limit) error {
	for _, l := range limits {
		n, known := limitNumbers[l.Name]
		if !known {
			return errors.New("unknown limit " + l.Name)
		}
		if err := syscall.Setrlimit(n, &syscall.Rlimit{Cur: limit(l.Soft), Max: limit(l.Hard)}); err != nil {
			return fmt.Errorf("set %s: %w", l.Name, err)
		}
	}
	return nil
}

// limit turns ^0 into RLIM_INFINITY, the highest signed number here.
func limit(n uint64) int64 { return int64(min(n, 1<<63-1)) }

// terminal makes a pseudoterminal in the jail, sends its master over the console, and returns the other side.
func terminal(console *net.UnixConn, p *jailspec.Process) (slave int, err error) {
	master, name, err := jailctl.OpenTerminal()
	if err != nil {
		return -1, err
	}
	defer unix.Close(master)
	if slave, err = unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
		return -1, fmt.Errorf("open the terminal %s: %w", name, err)
	}
	if p.Rows > 0 {
		unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &unix.Winsize{Row: p.Rows, Col: p.Cols}) // a size is worth no failure
	}
	const tty = 4 // the group, on FreeBSD
	unix.Fchown(slave, int(p.UID), tty)
	unix.Fchmod(slave, 0o620)
	if _, _, err = console.WriteMsgUnix([]byte(name), unix.UnixRights(master), nil); err != nil {
		unix.Close(slave)
		return -1, fmt.Errorf("send the terminal: %w", err)
	}
	return slave, nil
}

func readJSON(name string, into any) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}
