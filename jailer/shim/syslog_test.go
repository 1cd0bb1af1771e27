package shim

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/logfile/logline"
)

func TestLogSettings(t *testing.T) {
	want := Config{Log: logline.Options{MaxSize: 1 << 40, MaxFiles: 7, Compress: true, Attrs: `{"a":"b=c"}`},
		Syslog: Syslog{Network: "udp", Address: "[::1]:514", Facility: 23, Format: "rfc3164", Tag: "a b", Hostname: "h"}}
	var got Config
	if got.ParseLogSettings(want.LogSettings()); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	want.Syslog.Tag = "x\nfiles=9"
	if got.ParseLogSettings(want.LogSettings()); got.Log.MaxFiles != 7 {
		t.Error("a tag changed another setting")
	}
}

func TestSyslogMessages(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.UTC)
	pid := os.Getpid()
	for format, want := range map[string]string{
		"":             fmt.Sprintf("<27>Jan  2 03:04:05 tag[%d]: line\n", pid),
		"rfc3164":      fmt.Sprintf("<27>Jan  2 03:04:05 host tag[%d]: line\n", pid),
		"rfc5424":      fmt.Sprintf("<27>1 2026-01-02T03:04:05Z host tag %d tag - line\n", pid),
		"rfc5424micro": fmt.Sprintf("<27>1 2026-01-02T03:04:05.678900Z host tag %d tag - line\n", pid),
	} {
		r := &remote{cfg: Syslog{Facility: 3, Format: format, Tag: "tag", Hostname: "host"}}
		if got := string(r.message(severityErr, []byte("line"), at)); got != want {
			t.Errorf("%q: %q, want %q", format, got, want)
		}
	}
}

// Lines arrive over each transport, those of stderr with their own severity.
func TestSyslogTransports(t *testing.T) {
	dir := t.TempDir()
	for _, network := range []string{"udp", "unixgram", "tcp", "unix"} {
		address := filepath.Join(dir, network)
		if network == "udp" || network == "tcp" {
			address = "127.0.0.1:0"
		}
		lines := make(chan string, 10)
		if network == "udp" || network == "unixgram" {
			l, err := net.ListenPacket(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			address = l.LocalAddr().String()
			go func() {
				buf := make([]byte, 64<<10)
				for {
					n, _, err := l.ReadFrom(buf)
					if err != nil {
						return
					}
					lines <- string(buf[:n])
				}
			}()
		} else {
			l, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			address = l.Addr().String()
			go serveLines(l, lines)
		}
		r := newRemote(Syslog{Network: network, Address: address, Facility: 1, Tag: "t"})
		out, errOut := r.stream(Stdout), r.stream(Stderr)
		out.write([]byte("one\ntw"))
		out.write([]byte("o\n"))
		errOut.write([]byte("three"))
		errOut.flush()
		for _, want := range []string{"<14>|one\n", "<14>|two\n", "<11>|three\n"} {
			got := <-lines
			prefix, suffix, _ := strings.Cut(want, "|")
			if !strings.HasPrefix(got, prefix) || !strings.HasSuffix(got, ": "+suffix) {
				t.Errorf("%s: %q, want %s", network, got, want)
			}
		}
		r.close()
	}
}

func serveLines(l net.Listener, lines chan<- string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		for in := bufio.NewReader(c); ; {
			s, err := in.ReadString('\n')
			if err != nil {
				break
			}
			lines <- s
		}
		c.Close()
	}
}

// While nobody listens, writing goes on without end; what fits the queue arrives when somebody does.
func TestSyslogAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := newRemote(Syslog{Network: "unix", Address: path, Tag: "t"})
	s := r.stream(Stdout)
	line := []byte(strings.Repeat("x", 1000) + "\n")
	s.write([]byte("first\n"))
	for range 10_000 {
		s.write(line)
	}
	r.mu.Lock()
	size := r.size
	r.mu.Unlock()
	if size > farQueue || size < farQueue/2 {
		t.Errorf("%d bytes wait", size)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 20_000)
	go serveLines(l, lines)
	if got := <-lines; !strings.HasSuffix(got, ": first\n") {
		t.Errorf("the first is %q", got)
	}
	l.Close()
	r.close()
}

// A syslog that accepts and reads nothing is as one that is away.
func TestSyslogStalls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := newRemote(Syslog{Network: "unix", Address: path, Tag: "t"})
	s := r.stream(Stdout)
	line := []byte(strings.Repeat("x", 1000) + "\n")
	for range 10_000 {
		s.write(line)
	}
	r.close()
}
