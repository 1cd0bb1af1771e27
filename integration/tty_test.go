package integration

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"
)

// terminal is a docker command on a pseudo-terminal. Its reader gathers what the command wrote until it ends.
type terminal struct {
	t    *testing.T
	cmd  *exec.Cmd
	pty  *os.File
	mu   sync.Mutex
	said strings.Builder // guarded by mu
	done chan struct{}   // closed when the terminal gave its last byte
}

func openTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	term := &terminal{t: t, cmd: bed.cli.Command(ctx, args...), done: make(chan struct{})}
	var err error
	if term.pty, err = pty.StartWithSize(term.cmd, &pty.Winsize{Rows: 30, Cols: 70}); err != nil {
		cancel()
		t.Fatal(err)
	}
	go term.read()
	t.Cleanup(func() {
		cancel()
		term.cmd.Process.Kill()
		term.cmd.Wait()
		term.pty.Close()
		<-term.done
	})
	return term
}

func (term *terminal) read() {
	defer close(term.done)
	buf := make([]byte, 4096)
	for {
		n, err := term.pty.Read(buf)
		term.mu.Lock()
		term.said.Write(buf[:n])
		term.mu.Unlock()
		if err != nil {
			return // EIO when the last process has closed the other side: pty(7)
		}
	}
}

func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.said.String()
}

// sees waits until the terminal has shown a match of words.
func (term *terminal) sees(words string) {
	term.t.Helper()
	re := regexp.MustCompile(words)
	eventually(term.t, "terminal shows "+words, func() (bool, string) { return re.MatchString(term.text()), term.text() })
}

func (term *terminal) types(keys string) {
	term.t.Helper()
	if _, err := term.pty.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) resize(rows, cols uint16) {
	term.t.Helper()
	if err := pty.Setsize(term.pty, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		term.t.Fatal(err)
	}
}

// ends waits for the command and wants this exit code.
func (term *terminal) ends(code int) {
	term.t.Helper()
	err := term.cmd.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		term.t.Fatal(err)
	}
	if got := term.cmd.ProcessState.ExitCode(); got != code {
		term.t.Errorf("exit code %d, want %d; the terminal showed:\n%s", got, code, term.text())
	}
}

// prompt is a shell's: the tests make one that the echo of what they type cannot look like.
const prompt = `PS1=$(printf 'READY\076 '); export PS1; exec sh`

func TestTTYRun(t *testing.T) {
	term := openTerminal(t, "run", "-it", "--rm", image("busybox"), "sh", "-c", prompt)
	term.sees("READY> ")
	term.types("tty; test -t 0 -a -t 1 -a -t 2 && echo all-$((1+1))\n")
	term.sees(`/dev/(pts/\d|console)\r\nall-2\r\n`)
	term.types("stty size; echo TERM=$TERM.\n")
	term.sees(`30 70\r\nTERM=xterm\.`)
	term.resize(41, 99)
	term.types("while test \"$(stty size)\" != '41 99'; do sleep 0.1; done; echo seen-$((2+2))\n")
	term.sees(`seen-4\r\n`)
	term.types("sh -c 'echo sleeps-$((5+5)); exec sleep 500'\n")
	term.sees(`sleeps-10\r\n`)
	term.types("\x03") // Ctrl-C goes to the terminal's foreground, not to docker
	term.sees(`\^C\r\n.*READY> `)
	term.types("echo after-$((3+3))\n")
	term.sees(`after-6\r\n`)
	term.types("exit 11\n")
	term.ends(11)
}

func TestTTYExec(t *testing.T) {
	id := container(t, image("busybox"), "sleep", "600")
	term := openTerminal(t, "exec", "-it", id, "sh", "-c", prompt)
	term.sees("READY> ")
	term.resize(33, 77)
	term.types("while test \"$(stty size)\" != '33 77'; do sleep 0.1; done; echo seen-$((2+2))\n")
	term.sees(`seen-4\r\n`)
	term.types("exit 12\n")
	term.ends(12)
}

func TestTTYDetachAndAttach(t *testing.T) {
	id := made(t, ok(t, "create", "-it", image("busybox"), "sh", "-c", prompt))
	term := openTerminal(t, "start", "-a", "-i", id)
	term.sees("READY> ")
	term.types("\x10\x11") // Ctrl-P Ctrl-Q
	term.ends(0)
	equal(t, "after detach", inspect(t, id, "{{.State.Running}}"), "true")

	term = openTerminal(t, "attach", "--detach-keys", "ctrl-a,x", id)
	term.types("echo again-$((4+4))\n")
	term.sees(`again-8\r\n`)
	term.types("\x01x")
	term.sees("read escape sequence")
	term.ends(1)

	term = openTerminal(t, "attach", id)
	term.types("exit 13\n")
	term.ends(13)
	equal(t, "exit code", inspect(t, id, "{{.State.ExitCode}}"), "13")
	match(t, "log of a terminal", ok(t, "logs", id), `again-8\r\n`)
}

// Without -i and a terminal of the container's own, docker passes the signal on (--sig-proxy).
func TestTTYSignalProxy(t *testing.T) {
	name := fresh("proxy")
	term := openTerminal(t, "run", "--rm", "--name", name, image("user"), "onint")
	term.sees("ready")
	term.types("\x03")
	term.sees("got INT")
	term.ends(7)
}
