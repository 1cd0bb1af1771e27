package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
)

const path = "PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"

// size is what a client says of its terminal: RFC 4254, 6.2 and 6.7.
type size struct {
	Columns, Rows, Width, Height uint32
	Rest                         []byte `ssh:"rest"`
}

func (s size) winsize() *pty.Winsize {
	return &pty.Winsize{Cols: uint16(s.Columns), Rows: uint16(s.Rows), X: uint16(s.Width), Y: uint16(s.Height)}
}

// session runs one command or shell.
func session(ch ssh.NewChannel) {
	channel, requests, err := ch.Accept()
	if err != nil {
		return
	}
	env := []string{path, "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh"}
	var terminal *os.File
	var window *pty.Winsize
	var process *os.Process
	var running sync.WaitGroup
	for r := range requests {
		ok := false
		switch r.Type {
		case "pty-req":
			var v struct {
				Term string
				Rest []byte `ssh:"rest"`
			}
			var s size
			if ok = ssh.Unmarshal(r.Payload, &v) == nil && ssh.Unmarshal(v.Rest, &s) == nil; ok {
				env, window = append(env, "TERM="+v.Term), s.winsize()
			}
		case "window-change":
			var s size
			if ok = ssh.Unmarshal(r.Payload, &s) == nil && terminal != nil; ok {
				ok = pty.Setsize(terminal, s.winsize()) == nil
			}
		case "signal":
			var v struct{ Name string }
			if ok = ssh.Unmarshal(r.Payload, &v) == nil && process != nil; ok {
				ok = signal(process, v.Name)
			}
		case "shell", "exec":
			args := []string{"-l"}
			if r.Type == "exec" {
				var v struct{ Command string }
				if ssh.Unmarshal(r.Payload, &v) != nil {
					break
				}
				args = []string{"-c", v.Command}
			}
			if process != nil {
				break
			}
			cmd := exec.Command("/bin/sh", args...)
			cmd.Env, cmd.Dir = env, "/root"
			finish, t, err := start(cmd, channel, window)
			if err != nil {
				io.WriteString(channel.Stderr(), "sshd: "+err.Error()+"\n")
				break
			}
			ok, process, terminal = true, cmd.Process, t
			running.Add(1)
			go func() { defer running.Done(); finish() }()
		}
		if r.WantReply {
			r.Reply(ok, nil)
		}
	}
	// The client has gone. A command with a terminal is told as a terminal that hangs up tells it.
	if terminal != nil {
		process.Signal(syscall.SIGHUP)
	}
	running.Wait()
	channel.Close()
}

// start begins cmd on the channel, on a terminal if window is given. What it returns waits for the end and tells the client.
func start(cmd *exec.Cmd, channel ssh.Channel, window *pty.Winsize) (finish func(), terminal *os.File, err error) {
	if window != nil {
		if terminal, err = pty.StartWithSize(cmd, window); err != nil {
			return nil, nil, err
		}
		go io.Copy(terminal, channel)
		return func() {
			copied := make(chan struct{})
			go func() { io.Copy(channel, terminal); close(copied) }()
			err := cmd.Wait()
			<-copied
			terminal.Close()
			end(channel, err)
		}, terminal, nil
	}
	// Files, not Go's copying: the end of the command must not wait for input that the client never ends.
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	go func() { io.Copy(in, channel); in.Close() }()
	return func() { end(channel, cmd.Wait()) }, nil, nil
}

// end tells the client how the command ended, and closes the channel.
func end(channel ssh.Channel, err error) {
	status := struct{ Status uint32 }{0}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status.Status = uint32(exit.ExitCode())
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			status.Status = uint32(128 + ws.Signal())
		}
	} else if err != nil {
		status.Status = 255
	}
	channel.CloseWrite()
	channel.SendRequest("exit-status", false, ssh.Marshal(status))
	channel.Close()
}

// signal sends one of RFC 4254's signals, to the command and those it started.
func signal(p *os.Process, name string) bool {
	s, ok := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "QUIT": syscall.SIGQUIT,
		"TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2}[name]
	return ok && syscall.Kill(-p.Pid, s) == nil
}
