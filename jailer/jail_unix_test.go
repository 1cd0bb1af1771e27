//go:build linux || freebsd

package jailer

import (
	"os"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestJailRuns(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		out, errOut, exit := b.run(b.jail("sh", "-c", "echo out; echo err >&2; exit 3"), "")
		if out != "out\n" || errOut != "err\n" || exit.Code != 3 || exit.OOMKilled {
			b.Errorf("got %q, %q, %+v", out, errOut, exit)
		}
		h := b.create(b.jail("sleep", "1000"))
		b.start(h)
		if err := b.Signal(b.Context(), h, "", 9); err != nil {
			b.Error(err)
		}
		if exit = b.wait(h); exit.Code != 137 || exit.OOMKilled {
			b.Errorf("killed: %+v", exit)
		}
	})
}

func TestJailStdin(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		for _, size := range []int{5000, 50 << 20} {
			j := b.jail("sh", "-c", "wc -c")
			j.Spec.OpenStdin, j.Spec.StdinOnce = true, true
			out, _, exit := b.run(j, strings.Repeat("0123456789", size/10))
			if strings.TrimSpace(out) != strings.TrimSpace(itoa(size/10*10)) || exit.Code != 0 {
				b.Errorf("%d bytes: got %q, %+v", size, out, exit)
			}
		}
		j := b.jail("cat")
		j.Spec.OpenStdin = true
		big := strings.Repeat("abcdefghijklmno\n", 1<<16)
		if out, _, _ := b.run(j, big); out != big {
			b.Errorf("cat gave %d bytes of %d", len(out), len(big))
		}
	})
}

func TestJailStartErrors(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		for _, c := range []struct{ arg, want string }{
			{"nosuch", `exec: "nosuch": executable file not found in $PATH`},
			{"/nosuch", `exec: "/nosuch": stat /nosuch: no such file or directory`},
			{"/etc", "permission denied"},
			{"/etc/plain", "permission denied"},
		} {
			h := b.create(b.jail(c.arg))
			err := b.Start(b.Context(), h)
			if err == nil || !strings.Contains(err.Error(), c.want) || !errs.Is(err, errs.Invalid) {
				b.Errorf("%s: got %v, want %s", c.arg, err, c.want)
			}
		}
		j := b.jail("true")
		j.Spec.User = "nosuch"
		_, _, err := b.Create(b.Context(), j)
		if err == nil || err.Error() != "unable to find user nosuch: no matching entries in passwd file" {
			b.Errorf("user: %v", err)
		}
		os.Remove(j.Dir)
	})
}

func TestJailTTY(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		j := b.jail("sh", "-c", "read x; stty size; read x; stty size; echo got $x; env | grep TERM")
		j.Spec.TTY, j.Spec.OpenStdin = true, true
		h := b.create(j)
		if err := b.Resize(b.Context(), h, "", 30, 70); err != nil {
			b.Fatal(err)
		}
		out := newBuffer()
		in, feed, _ := os.Pipe()
		defer feed.Close()
		done := b.attach(h, brig.IO{Stdin: in, Stdout: out})
		b.start(h)
		feed.WriteString("go\n")
		out.await("30 70\r\n")
		if err := b.Resize(b.Context(), h, "", 40, 100); err != nil {
			b.Fatal(err)
		}
		feed.WriteString("hello\n")
		exit := b.wait(h)
		<-done
		for _, want := range []string{"40 100\r\n", "got hello\r\n", "TERM=xterm\r\n"} {
			if !strings.Contains(out.String(), want) {
				b.Errorf("no %q in %q", want, out)
			}
		}
		if exit.Code != 0 {
			b.Errorf("exit %+v", exit)
		}
	})
}

func TestJailExec(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		j := b.jail("sleep", "1000")
		h := b.create(j)
		b.start(h)
		exec := func(spec brig.ExecSpec, stdin string) (string, string, brig.Exit, error) {
			o, e := newBuffer(), newBuffer()
			bio := brig.IO{Stdout: o, Stderr: e}
			if stdin != "" {
				bio.Stdin, bio.CloseStdin = strings.NewReader(stdin), true
			}
			pid, done, err := b.Exec(b.Context(), h, j, brig.NewID(), spec, bio)
			if err != nil {
				return "", "", brig.Exit{}, err
			}
			if pid <= 0 {
				b.Errorf("pid %d", pid)
			}
			exit := <-done
			return o.String(), e.String(), exit, nil
		}
		out, errOut, exit, err := exec(brig.ExecSpec{Args: []string{"sh", "-c", "echo $A; pwd; id; echo no >&2; exit 5"}, Env: []string{"A=b"}, WorkingDir: "/tmp", User: "web"}, "")
		if err != nil || out != "b\n/tmp\nuid=1000(web) gid=1000(web) groups=1000(web),2000(extra)\n" || errOut != "no\n" || exit.Code != 5 {
			b.Errorf("got %q %q %+v %v", out, errOut, exit, err)
		}
		if out, _, _, err = exec(brig.ExecSpec{Args: []string{"wc", "-c"}}, strings.Repeat("x", 5000)); strings.TrimSpace(out) != "5000" {
			b.Errorf("stdin: %q %v", out, err)
		}
		// crun sets the size beside the process's first steps, so the process must be past these.
		tty := brig.ExecSpec{Args: []string{"sh", "-c", "read x; stty size"}, TTY: true, ConsoleRows: 33, ConsoleCols: 77}
		if out, _, _, err = exec(tty, "go\n"); !strings.HasSuffix(out, "33 77\r\n") {
			b.Errorf("tty: %q %v", out, err)
		}
		for arg, want := range map[string]string{
			"nosuch": `exec: "nosuch": executable file not found in $PATH`, "/nosuch": "no such file or directory", "/etc/plain": "permission denied",
		} {
			if _, _, _, err = exec(brig.ExecSpec{Args: []string{arg}}, ""); err == nil || !strings.Contains(err.Error(), want) || !errs.Is(err, errs.Invalid) {
				b.Errorf("%s: %v", arg, err)
			}
		}
		id := brig.NewID()
		_, done, err := b.Exec(b.Context(), h, j, id, brig.ExecSpec{Args: []string{"sleep", "1000"}}, brig.IO{})
		if err != nil {
			b.Fatal(err)
		}
		if pids, err := b.Pids(b.Context(), h); err != nil || len(pids) != 2 {
			b.Errorf("pids %v %v", pids, err)
		}
		if err = b.Signal(b.Context(), h, id, 15); err != nil {
			b.Error(err)
		}
		if exit = <-done; exit.Code != 143 {
			b.Errorf("signalled exec: %+v", exit)
		}
		if err = b.Signal(b.Context(), h, id, 15); !errs.Is(err, errs.NotFound) {
			b.Errorf("ended exec: %v", err)
		}
	})
}
