package changes

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// base is the config that the instructions change.
func base() brig.ImageConfig {
	return brig.ImageConfig{
		User: "old", Env: []string{"PATH=/bin", "A=1"}, Entrypoint: []string{"/entry"}, Cmd: []string{"old"}, WorkingDir: "/w",
		Volumes: []string{"/v"}, Exposed: []brig.Port{{Number: 80, Proto: "tcp"}}, Labels: map[string]string{"a": "b"}, StopSignal: "SIGTERM", OnBuild: []string{"RUN x"},
	}
}

func TestApply(t *testing.T) {
	ports := func(n ...uint16) (out []brig.Port) {
		for _, x := range n {
			out = append(out, brig.Port{Number: x, Proto: "tcp"})
		}
		return out
	}
	for _, c := range []struct {
		lines string // separated by |
		want  func(c *brig.ImageConfig)
	}{
		{"", func(*brig.ImageConfig) {}},
		{`CMD ["a", "b c"]`, func(c *brig.ImageConfig) { c.Cmd = []string{"a", "b c"} }},
		{`CMD echo "a" $A`, func(c *brig.ImageConfig) { c.Cmd = []string{"/bin/sh", "-c", `echo "a" $A`} }},
		{`CMD []`, func(c *brig.ImageConfig) { c.Cmd = []string{} }},
		{`ENTRYPOINT ["x"]`, func(c *brig.ImageConfig) { c.Entrypoint, c.Cmd = []string{"x"}, nil }},
		{`CMD ["c"]|ENTRYPOINT ["x"]`, func(c *brig.ImageConfig) { c.Entrypoint, c.Cmd = []string{"x"}, []string{"c"} }},
		{`ENTRYPOINT []`, func(c *brig.ImageConfig) { c.Entrypoint, c.Cmd = nil, nil }},
		{`ENV A=2 B="x y"`, func(c *brig.ImageConfig) { c.Env = []string{"PATH=/bin", "A=2", "B=x y"} }},
		{`ENV B some words`, func(c *brig.ImageConfig) { c.Env = append(c.Env, "B=some words") }},
		{`ENV B=$A|ENV C=${B}x`, func(c *brig.ImageConfig) { c.Env = append(c.Env, "B=1", "C=1x") }},
		{`env A=\$A`, func(c *brig.ImageConfig) { c.Env = []string{"PATH=/bin", "A=$A"} }},
		{`EXPOSE 80 443/tcp`, func(c *brig.ImageConfig) { c.Exposed = ports(80, 443) }},
		{`EXPOSE 90-92`, func(c *brig.ImageConfig) { c.Exposed = ports(80, 90, 91, 92) }},
		{`ENV P=81|EXPOSE $P/udp`, func(c *brig.ImageConfig) {
			c.Env = append(c.Env, "P=81")
			c.Exposed = append(c.Exposed, brig.Port{Number: 81, Proto: "udp"})
		}},
		{`LABEL a=c "d e"='f g'`, func(c *brig.ImageConfig) { c.Labels = map[string]string{"a": "c", "d e": "f g"} }},
		{`ONBUILD RUN make`, func(c *brig.ImageConfig) { c.OnBuild = []string{"RUN x", "RUN make"} }},
		{`USER new:group`, func(c *brig.ImageConfig) { c.User = "new:group" }},
		{`VOLUME /v /b`, func(c *brig.ImageConfig) { c.Volumes = []string{"/b", "/v"} }},
		{`VOLUME ["/a b"]`, func(c *brig.ImageConfig) { c.Volumes = []string{"/a b", "/v"} }},
		{`WORKDIR sub`, func(c *brig.ImageConfig) { c.WorkingDir = "/w/sub" }},
		{`WORKDIR /x|WORKDIR $A`, func(c *brig.ImageConfig) { c.WorkingDir = "/x/1" }},
		{`STOPSIGNAL SIGINT`, func(c *brig.ImageConfig) { c.StopSignal = "SIGINT" }},
		{`HEALTHCHECK NONE`, func(c *brig.ImageConfig) { c.Health = &brig.HealthCheck{Test: []string{"NONE"}} }},
		{`HEALTHCHECK --interval=5s --retries=2 CMD true`, func(c *brig.ImageConfig) {
			c.Health = &brig.HealthCheck{Test: []string{"CMD-SHELL", "true"}, Interval: 5 * time.Second, Retries: 2}
		}},
	} {
		want, before := base(), base()
		c.want(&want)
		got, err := Apply(before, strings.Split(c.lines, "|"))
		if err != nil || text(t, got) != text(t, want) {
			t.Errorf("%s:\n%s, %v\nwant\n%s", c.lines, text(t, got), err, text(t, want))
		}
		if text(t, before) != text(t, base()) {
			t.Errorf("%s changed the config it was given: %s", c.lines, text(t, before))
		}
	}
}

func text(t *testing.T, c brig.ImageConfig) string {
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestApplyRefuses(t *testing.T) {
	for line, words := range map[string]string{
		"RUN x":             "RUN is not a valid change command",
		"from scratch":      "from is not a valid change command",
		"CMD x|COPY a b":    "COPY is not a valid change command",
		"NOSUCH x":          "NOSUCH is not a valid change command",
		"ENV":               "ENV requires at least one argument",
		"ENV A=1 B":         "Syntax error - can't find = in \"B\"",
		"ENV =1":            "ENV names can not be blank",
		"EXPOSE x":          "invalid containerPort: x",
		"EXPOSE 9-8":        "invalid containerPort: 9-8",
		"EXPOSE 80/foo":     "invalid proto: foo",
		"EXPOSE 70000":      "invalid containerPort: 70000",
		"STOPSIGNAL NOSUCH": "invalid signal: NOSUCH",
		"ONBUILD FROM x":    "FROM isn't allowed as an ONBUILD trigger",
		`VOLUME [""]`:       "VOLUME specified can not be an empty string",
		"WORKDIR":           "WORKDIR requires exactly one argument",
		"USER":              "USER requires exactly one argument",
		"HEALTHCHECK x":     "Unknown type \"X\" in HEALTHCHECK",
		"LABEL a":           "LABEL must have two arguments",
		"# only words":      "file with no instructions",
	} {
		_, err := Apply(base(), strings.Split(line, "|"))
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", line, err, words)
		}
	}
}

// Whatever the instructions are, Apply gives a config or an error, and leaves the one that it was given alone.
func FuzzApply(f *testing.F) {
	for _, s := range []string{"CMD x", "ENV A=${B:-c} D=$E", "EXPOSE 1-65535/udp", "LABEL a=\"b\\\nc\"", "# escape=`\nENV A=`b", "HEALTHCHECK --interval=1s CMD [\"x\"]",
		"ONBUILD ENV a b", "RUN <<E\nx\nE", "VOLUME [\"/a\"", "WORKDIR ../..", "ENV A=${A}${A}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		before := base()
		_, err := Apply(before, strings.Split(s, "\n"))
		if err != nil && !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", s, err)
		}
		if text(t, before) != text(t, base()) {
			t.Errorf("%q changed the config that it was given", s)
		}
	})
}
