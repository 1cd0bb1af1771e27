package logopts

import (
	"maps"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

type opts = map[string]string

func TestValidate(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		driver string
		o      opts
		want   string // in the error; "": none
	}{
		{"json-file", nil, ""},
		{"json-file", opts{"max-size": "10m", "max-file": "3", "compress": "true", "labels": "a", "env-regex": "^X", "tag": "{{.Name}}", "mode": "blocking"}, ""},
		{"json-file", opts{"max-size": "10x"}, "failed to initialize logging driver: invalid s"},
		{"json-file", opts{"max-size": "0"}, "failed to initialize logging driver: max-size must be a positive number"},
		{"json-file", opts{"max-file": "0"}, "max-file cannot be less than 1"},
		{"json-file", opts{"max-file": "x"}, "invalid syntax"},
		{"json-file", opts{"compress": "true"}, "compress cannot be true when max-file is less than 2 or max-size is not set"},
		{"json-file", opts{"max-size": "1m", "compress": "true"}, "compress cannot be true when max-file is less than 2 or max-size is not set"},
		{"json-file", opts{"compress": "maybe", "max-size": "1m"}, "invalid syntax"},
		{"json-file", opts{"syslog-format": "rfc5424"}, "unknown log opt 'syslog-format' for json-file log driver"},
		{"json-file", opts{"labels-regex": "("}, "error parsing regexp"},
		{"json-file", opts{"tag": "{{.Nothing}}"}, "can't evaluate field Nothing"},
		{"json-file", opts{"mode": "fast"}, "logger: logging mode not supported: fast"},
		{"json-file", opts{"max-buffer-size": "1m"}, "logger: max-buffer-size option is only supported with 'mode=non-blocking'"},
		{"json-file", opts{"mode": "non-blocking", "max-buffer-size": "x"}, "error parsing option max-buffer-size"},
		{"local", opts{"max-size": "1m", "max-file": "2", "compress": "false"}, ""},
		{"local", opts{"labels": "a"}, "unknown log opt 'labels' for log-driver local"},
		{"none", opts{"whatever": "1"}, ""},
		{"syslog", opts{"syslog-address": "unix://" + socket, "syslog-facility": "local3", "syslog-format": "rfc5424micro"}, ""},
		{"syslog", opts{"syslog-address": "udp://127.0.0.1", "syslog-facility": "23"}, ""},
		{"syslog", opts{"syslog-address": "unix:///no/such"}, "no such file"},
		{"syslog", opts{"syslog-address": "127.0.0.1"}, "syslog-address should be in form proto://address, got 127.0.0.1"},
		{"syslog", opts{"syslog-address": "http://x"}, "unsupported scheme: 'http'"},
		{"syslog", opts{"syslog-facility": "24"}, "invalid syslog facility"},
		{"syslog", opts{"syslog-format": "x"}, "Invalid syslog format"},
		{"syslog", opts{"max-size": "1m"}, "unknown log opt 'max-size' for syslog log driver"},
		{"syslog", opts{"syslog-address": "tcp+tls://x"}, "not supported by brig"},
		{"gelf", nil, `log driver "gelf" is not supported by brig`},
		{"foo", nil, "logger: no log driver named 'foo' is registered"},
	} {
		err := Validate(brig.LogConfig{Driver: c.driver, Options: c.o})
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s %v: %v, want %q", c.driver, c.o, err, c.want)
		case err != nil && !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.NotImplemented):
			t.Errorf("%s %v: kind %v", c.driver, c.o, errs.KindOf(err))
		}
	}
}

func TestMerge(t *testing.T) {
	local := brig.LogConfig{Driver: "local", Options: opts{"max-size": "1m", "max-file": "2"}}
	for _, c := range []struct{ asked, def, want brig.LogConfig }{
		{brig.LogConfig{}, brig.LogConfig{}, brig.LogConfig{Driver: "json-file"}},
		{brig.LogConfig{}, local, local},
		{brig.LogConfig{Driver: "json-file"}, local, brig.LogConfig{Driver: "json-file"}},
		{brig.LogConfig{Options: opts{"max-file": "9"}}, local, brig.LogConfig{Driver: "local", Options: opts{"max-size": "1m", "max-file": "9"}}},
	} {
		if got := Merge(c.asked, c.def); got.Driver != c.want.Driver || !maps.Equal(got.Options, c.want.Options) {
			t.Errorf("%v over %v: %v", c.asked, c.def, got)
		}
	}
	if len(local.Options) != 2 || local.Options["max-file"] != "2" {
		t.Error("the default was changed")
	}
}

func TestSinkOfAContainer(t *testing.T) {
	of := Of(&brig.Container{ID: "0123456789abcdef", Name: "web", Image: "sha256:fedcba9876543210",
		Spec: brig.Spec{Image: "busybox", Cmd: []string{"a", "b"}, Env: []string{"A=1", "AB=2=3", "C=4", "BARE"}, Labels: opts{"x.y": "l", "z": "m"}}})
	for _, c := range []struct {
		o    opts
		want string
	}{
		{nil, ""},
		{opts{"labels": "none,neither"}, ""},
		{opts{"labels": "z,none"}, `{"z":"m"}`},
		{opts{"labels-regex": `^x\.`, "env": "C"}, `{"C":"4","x.y":"l"}`},
		{opts{"env-regex": "^A"}, `{"A":"1","AB":"2=3"}`},
		{opts{"tag": "{{.ImageName}}/{{.Name}}/{{.ID}}/{{.ImageID}}/{{.DaemonName}}/{{.Command}}"}, `{"tag":"busybox/web/0123456789ab/fedcba987654/docker/a b"}`},
		{opts{"tag": "{{.FullID}}{{.ImageFullID}}{{upper .Name}}{{index .ContainerLabels \"z\"}}"}, `{"tag":"0123456789abcdefsha256:fedcba9876543210WEBm"}`},
	} {
		s, err := NewSink(brig.LogConfig{Driver: "json-file", Options: c.o}, of)
		if err != nil || s.Attrs != c.want {
			t.Errorf("%v: %s, %v; want %s", c.o, s.Attrs, err, c.want)
		}
	}
	s, err := NewSink(brig.LogConfig{Driver: "syslog", Options: opts{"syslog-address": "tcp://[::1]", "syslog-facility": "user", "cache-max-file": "1"}}, of)
	if err != nil || s.Syslog.Network != "tcp" || s.Syslog.Address != "[::1]:514" || s.Syslog.Facility != 1 || s.Syslog.Tag != "0123456789ab" ||
		s.MaxSize != 20e6 || s.MaxFiles != 1 || s.Compress {
		t.Errorf("%+v %+v %v", s, s.Syslog, err)
	}
	if s, err = NewSink(brig.LogConfig{Driver: "local"}, of); err != nil || s != (brig.LogSink{MaxSize: 20e6, MaxFiles: 5, Compress: true}) {
		t.Errorf("%+v %v", s, err)
	}
}
