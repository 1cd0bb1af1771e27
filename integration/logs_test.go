package integration

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Followers of a log that is rotated and compressed all the while see each line once.
func TestLogRotation(t *testing.T) {
	if reason, differs := dockerdDiffers["log rotation"]; differs && !bed.server.Owned {
		t.Skip(reason)
	}
	const n = 200_000
	id := made(t, ok(t, "create", "--log-opt", "max-size=1m", "--log-opt", "max-file=1000", "--log-opt", "compress=true",
		image("busybox"), "sh", "-c", fmt.Sprintf("seq 1 %d", n)))
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	ok(t, "start", id)
	var all sync.WaitGroup
	for range 3 {
		follow := bed.cli.Command(ctx, "logs", "-f", id)
		out, err := follow.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := follow.Start(); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			want := 1
			for sc := bufio.NewScanner(out); sc.Scan(); want++ {
				if sc.Text() != strconv.Itoa(want) {
					t.Errorf("line %d is %q", want, sc.Text())
					break
				}
			}
			if err := follow.Wait(); err != nil || want != n+1 {
				t.Errorf("%d lines, %v", want-1, err)
			}
		})
	}
	all.Wait()
	equal(t, "exit code", ok(t, "wait", id), "0")
	equal(t, "tail", ok(t, "logs", "--tail", "3", id), fmt.Sprintf("%d\n%d\n%d", n-2, n-1, n))
	equal(t, "lines across files", len(strings.Split(ok(t, "logs", "--tail", "150000", id), "\n")), 150_000)
}

// With few files the oldest lines go, and the rest is what it was.
func TestLogRotationKeepsMaxFile(t *testing.T) {
	id := container(t, "--log-opt", "max-size=10k", "--log-opt", "max-file=2", image("busybox"), "seq", "1", "5000")
	equal(t, "exit code", ok(t, "wait", id), "0")
	lines := strings.Split(ok(t, "logs", id), "\n")
	first, err := strconv.Atoi(lines[0])
	if err != nil || first < 2 {
		t.Fatalf("the first line is %q, %v", lines[0], err)
	}
	for i, l := range lines {
		if l != strconv.Itoa(first+i) {
			t.Fatalf("line %d is %q", first+i, l)
		}
	}
	equal(t, "the last", lines[len(lines)-1], "5000")
}

func TestLogDetails(t *testing.T) {
	id := container(t, "--label", "b=2 3", "-e", "A=1", "-e", "SECRET=x", "--log-opt", "labels=b,nosuch", "--log-opt", "env=A", "--log-opt", "tag={{.ImageName}}",
		image("busybox"), "echo", "hello")
	ok(t, "wait", id)
	tag := strings.NewReplacer("/", "%2F", ":", "%3A").Replace(image("busybox"))
	equal(t, "details", ok(t, "logs", "--details", id), "A=1,b=2+3,tag="+tag+" hello")
	equal(t, "without", ok(t, "logs", id), "hello")
}

func TestLogDrivers(t *testing.T) {
	id := container(t, "--log-driver", "local", "--log-opt", "max-size=10k", image("busybox"), "echo", "hello")
	ok(t, "wait", id)
	equal(t, "local", ok(t, "logs", id), "hello")
	equal(t, "inspect", inspect(t, id, "{{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig.Config}} {{.LogPath}}"), "local map[max-size:10k] ")
	id = container(t, "--log-driver", "none", image("busybox"), "echo", "hello")
	ok(t, "wait", id)
	fails(t, 1, "configured logging driver does not support reading", "logs", id)
	for want, args := range map[string][]string{
		"unknown log opt 'nosuch' for json-file log driver":                                         {"--log-opt", "nosuch=1"},
		"logger: no log driver named 'nosuch' is registered|error looking up logging plugin nosuch": {"--log-driver", "nosuch"},
		"max-size must be a positive number|invalid s(ize|uffix)":                                   {"--log-opt", "max-size=-1"},
		"max-file cannot be less than 1":                                                            {"--log-opt", "max-file=0"},
		"compress cannot be true when max-file is less than 2 or max-size is not set":               {"--log-opt", "compress=true"},
		"logger: logging mode not supported: fast":                                                  {"--log-opt", "mode=fast"},
		"logger: max-buffer-size option is only supported with 'mode=non-blocking'":                 {"--log-opt", "max-buffer-size=1m"},
		"unknown log opt 'max-size' for syslog log driver":                                          {"--log-driver", "syslog", "--log-opt", "max-size=1m"},
		"invalid syslog facility":                                                                   {"--log-driver", "syslog", "--log-opt", "syslog-address=udp://127.0.0.1:9", "--log-opt", "syslog-facility=x"},
		"syslog-address should be in form proto://address, got":                                     {"--log-driver", "syslog", "--log-opt", "syslog-address=here"},
		"(?i)invalid syslog format":                                                                 {"--log-driver", "syslog", "--log-opt", "syslog-address=udp://127.0.0.1:9", "--log-opt", "syslog-format=x"},
	} {
		fails(t, 125, want, append(append([]string{"run", "--rm"}, args...), image("busybox"), "true")...)
	}
}

func TestSyslog(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := "syslog-address=udp://" + l.LocalAddr().String()
	id := container(t, "--log-driver", "syslog", "--log-opt", address, "--log-opt", "syslog-format=rfc5424", "--log-opt", "tag=me", "--log-opt", "syslog-facility=local0",
		image("busybox"), "sh", "-c", "echo out; echo err >&2")
	got := map[string]bool{}
	buf := make([]byte, 4096)
	for range 2 {
		n, _, err := l.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(buf[:n]))
		got[f[0]+f[len(f)-1]] = true
		match(t, "message", string(buf[:n]), `^<13[14]>1 \S+ \S+ me \d+ me - (out|err)\n$`)
	}
	if !got["<134>1out"] && !got["<134>out"] {
		match(t, "severities", fmt.Sprint(got), "<134>1?out.*<131>1?err|<131>1?err.*<134>1?out")
	}
	ok(t, "wait", id)
	match(t, "logs, of the copy", ok(t, "logs", id), "out")
	id = container(t, "--log-driver", "syslog", "--log-opt", address, "--log-opt", "cache-disabled=true", image("busybox"), "true")
	ok(t, "wait", id)
	fails(t, 1, "configured logging driver does not support reading", "logs", id)
	// Nobody listens, and the container writes more than any queue holds.
	id = container(t, "--log-driver", "syslog", "--log-opt", "syslog-address=udp://127.0.0.1:9", image("busybox"), "seq", "1", "300000")
	equal(t, "exit code without a syslog", ok(t, "wait", id), "0")
}

func TestDefaultLog(t *testing.T) {
	_, cli := daemon(t, "--log-driver", "local", "--log-opt", "max-size=5k", "--log-opt", "max-file=2")
	equal(t, "info", done(t, cli, "info", "-f", "{{.LoggingDriver}}"), "local")
	id := done(t, cli, "create", "--log-opt", "max-file=7", image("busybox"))
	equal(t, "merged", done(t, cli, "inspect", "-f", "{{json .HostConfig.LogConfig}}", id), `{"Type":"local","Config":{"max-file":"7","max-size":"5k"}}`)
	id = done(t, cli, "create", "--log-driver", "json-file", image("busybox"))
	equal(t, "another driver", done(t, cli, "inspect", "-f", "{{json .HostConfig.LogConfig}}", id), `{"Type":"json-file","Config":{}}`)
}

// A docker logs -f that is stopped doesn't hold up the container.
func TestStalledLogReader(t *testing.T) {
	id := container(t, image("busybox"), "sh", "-c", "echo begin; while test ! -e /go; do sleep 0.01; done; yes 0123456789012345678901234567890123456789 | head -n 400000; echo end")
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	follow := bed.cli.Command(ctx, "logs", "-f", id)
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(out)
	if !in.Scan() || in.Text() != "begin" {
		t.Fatalf("first line %q", in.Text())
	}
	follow.Process.Signal(syscall.SIGSTOP)
	ok(t, "exec", id, "touch", "/go")
	equal(t, "exit code", ok(t, "wait", id), "0")
	follow.Process.Signal(syscall.SIGCONT)
	lines := 1
	for in.Scan() {
		lines++
	}
	if err := follow.Wait(); err != nil || lines != 400_002 {
		t.Errorf("%d lines, %v", lines, err)
	}
}
