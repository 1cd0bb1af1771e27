package build

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func planned(dockerfile, target string, given map[string]*string) (*plan, error) {
	p, err := parse([]byte(dockerfile), "Dockerfile")
	if err == nil {
		err = p.aim(target, nil, newArgs(given, host, brig.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}))
	}
	return p, err
}

func TestPlan(t *testing.T) {
	arm := "1"
	for _, c := range []struct{ dockerfile, target, want string }{
		{"FROM a", "", "1: 1 a [0]"},
		{"ARG X=b\nARG Y=$X:1\nFROM $Y AS x\nRUN 1\nFROM X\nRUN 2", "", "6: 3 b:1 | 5 X on 0 [0 1]"},
		{"FROM a AS x\nFROM b AS y\nFROM c AS z\nCOPY --from=Y f g", "", "4: 1 a | 2 b | 3 c [1 2]"},
		{"FROM a AS x\nFROM b AS y\nFROM c AS z\nCOPY --from=0 f g", "y", "2: 1 a | 2 b [1]"},
		{"FROM a\nRUN 1\nFROM b", "0", "2: 1 a [0]"},
		{"FROM a AS x\nFROM b\nRUN --mount=from=x,target=/x true\nFROM c\nCOPY --from=1 f g", "", "5: 1 a | 2 b | 4 c [0 1 2]"},
		{"FROM a AS b\nFROM b AS c\nFROM c AS d", "c", "2: 1 a | 2 b on 0 [0 1]"},
		{"FROM x:$TARGETARCH-$BUILDOS", "", "1: 1 x:arm64-linux [0]"},
		{"ARG TARGETARCH=mine\nFROM x:$TARGETARCH", "", "2: 2 x:mine [0]"},
		{"ARG G\nFROM x:${G:-none}$HTTP_PROXY", "", "2: 2 x:1 [0]"},
		{"ARG E\nFROM ${E}", "", "2: 2 ! base name (${E}) should not be blank [0]"},
		{"FROM --platform=$TARGETPLATFORM a", "", "1: 1 a on linux/arm64/v8 [0]"},
		{"FROM b\nFROM a AS b\nFROM b", "", "3: 1 b | 2 a | 3 b on 1 [1 2]"},
		{"# escape=`\nFROM a `\n AS b\nRUN x", "", "2: 1 a [0]"},
		{"# syntax=docker/dockerfile:1\nFROM a", "", "1: 1 a [0]"},
		{"from a\nonbuild copy --from=x y z", "", "2: 1 a [0]"},
	} {
		p, err := planned(c.dockerfile, c.target, map[string]*string{"G": &arm})
		if err != nil {
			t.Errorf("%q: %v", c.dockerfile, err)
			continue
		}
		var stages []string
		for _, s := range p.stages {
			d := fmt.Sprintf("%d %s", s.first, s.base)
			if s.err != nil {
				d = fmt.Sprintf("%d ! %v", s.first, s.err)
			}
			if s.on != noStage {
				d += fmt.Sprintf(" on %d", s.on)
			}
			if s.plat != "" {
				d += " on " + s.plat
			}
			stages = append(stages, d)
		}
		if got := fmt.Sprintf("%d: %s %v", p.total, strings.Join(stages, " | "), p.needed); got != c.want {
			t.Errorf("%q: %s, want %s", c.dockerfile, got, c.want)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, c := range []struct{ dockerfile, target, want string }{
		{"", "", "the Dockerfile (Dockerfile) cannot be empty"},
		{"# nothing", "", "failed to parse Dockerfile: file with no instructions"},
		{"FROM a\nENV X", "", "failed to parse Dockerfile: ENV must have two arguments"},
		{"FROM a\nQQQQQ x", "", "dockerfile parse error line 2: unknown instruction: QQQQQ"},
		{"FROM a\n\nCOPY x", "", "dockerfile parse error line 3: COPY requires at least two arguments, but only one was provided. Destination could not be determined"},
		{"FROM", "", "dockerfile parse error line 1: FROM requires either one or three arguments"},
		{"RUN x", "", "no build stage in current context"},
		{"ARG x", "", "no build stage in current context"},
		{"FROM a AS A\nFROM b AS a", "", "a stage name already used"},
		{"FROM a", "zz", "failed to reach build target zz in Dockerfile"},
		{"FROM a", "1", "failed to reach build target 1 in Dockerfile"},
		{"FROM a\nCOPY --from=1 x y\nFROM b", "", "invalid from flag value 1: index out of bounds"},
		{"FROM a\nONBUILD FROM x", "", "dockerfile parse error line 2: FROM isn't allowed as an ONBUILD trigger"},
		{"ARG X=${Y:~z}\nFROM a", "", `failed to process "${Y:~z}": unsupported modifier (:~) in substitution`},
	} {
		_, err := planned(c.dockerfile, c.target, nil)
		if err == nil || err.Error() != c.want || !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v, want %s", c.dockerfile, err, c.want)
		}
	}
}

// FuzzPlan: no Dockerfile makes the planner fail otherwise than by an Invalid error, and its stages need only what comes before them.
func FuzzPlan(f *testing.F) {
	for _, s := range []string{
		"FROM a\nRUN x", "ARG X=1\nFROM $X AS y\nCOPY --from=y a b\nFROM y\nRUN --mount=type=bind,from=0,target=/x <<EOF\nfoo\nEOF\n",
		"# escape=`\nFROM a\nCOPY <<A <<-'B' /x/\n1\nA\n\t2\nB\n", "FROM scratch\nHEALTHCHECK --interval=1s CMD [\"x\"]\nONBUILD ADD a b\nLABEL a=b c=\"d\"",
	} {
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, dockerfile, target string) {
		p, err := planned(dockerfile, target, nil)
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("%v is of kind %v", err, errs.KindOf(err))
			}
			return
		}
		last := len(p.stages) - 1
		if !slices.IsSorted(p.needed) || p.needed[len(p.needed)-1] != last {
			t.Errorf("needed %v of %d stages", p.needed, len(p.stages))
		}
		for _, s := range p.stages {
			if s.on >= s.index {
				t.Errorf("stage %d stands on %d", s.index, s.on)
			}
		}
	})
}

func TestChmod(t *testing.T) {
	for _, c := range []struct {
		mode string
		from int64
		dir  bool
		want int64
	}{
		{"755", 0o644, false, 0o755}, {"0", 0o644, false, 0}, {"4711", 0o644, true, 0o4711}, {"u=rwX,go=rX", 0o600, false, 0o644}, {"u=rwX,go=rX", 0o700, false, 0o755},
		{"u=rwX,go=rX", 0o600, true, 0o755}, {"a+x", 0o644, false, 0o755}, {"+x", 0o644, false, 0o755}, {"go-w", 0o666, false, 0o644}, {"u+s", 0o755, false, 0o4755},
		{"g=u", 0o640, false, 0o660}, {"o=", 0o777, false, 0o770}, {"u+x-w", 0o644, false, 0o544}, {"+t", 0o777, true, 0o1777}, {"g+s,o-rwx", 0o755, true, 0o2750},
		{"a=r", 0o2777, true, 0o2444},
	} {
		m, err := parseChmod(c.mode)
		if err != nil {
			t.Errorf("%s: %v", c.mode, err)
		} else if got := m(c.from, c.dir); got != c.want {
			t.Errorf("%s of %o: %o, want %o", c.mode, c.from, got, c.want)
		}
	}
	for _, bad := range []string{"99", "78", "10000", "x", "u", "u~x", "q+x", "u+ru", "u=rwx,,g=r", "-1x"} {
		if _, err := parseChmod(bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestArgs(t *testing.T) {
	x, empty, proxy := "given", "", "p"
	a := newArgs(map[string]*string{"A": &x, "N": nil, "HTTP_PROXY": &proxy, "U": &x}, host, host)
	a.meta["G"], a.used["G"] = &x, true
	s := a.stage()
	def := "default"
	for k, v := range map[string]*string{"A": &def, "B": &def, "C": nil, "G": nil, "TARGETARCH": nil, "E": &empty} {
		s.add(k, v)
	}
	if got, want := strings.Join(s.env([]string{"B=b"}), " "), "A=given E= G=given HTTP_PROXY=p TARGETARCH=amd64"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := strings.Join(s.traces(s.env(nil)), " "), "A=given B=default E= G=given TARGETARCH=amd64"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.add("HTTP_PROXY", nil)
	if got := s.traces(s.env(nil)); !slices.Contains(got, "HTTP_PROXY=p") {
		t.Errorf("declared proxy leaves no trace: %v", got)
	}
	if got, want := a.unused(s.used), "[Warning] One or more build-args [N U] were not consumed\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTextWriter(t *testing.T) {
	var got []string
	w := &textWriter{line: func(s string) { got = append(got, s) }}
	for _, b := range []string{"a\xc3", "\xa9b", "\xff", "x\xe2\x82", "\xac", "\xf0\x9f"} {
		w.Write([]byte(b))
	}
	w.flush()
	if want := []string{"a", "éb", "\xff", "x", "€", "\xf0\x9f"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestReportOrder: parts speak in order, whenever they say something, and nothing is said behind a failure.
func TestReportOrder(t *testing.T) {
	var got strings.Builder
	r := newReport(func(l brig.BuildLine) { got.WriteString(l.Out) })
	a, b, c := r.open(0), r.open(1), r.open(3)
	r.begin()
	c.say("c1 ")
	b.say("b1 ")
	a.say("a1 ")
	late := r.open(2)
	late.say("late ")
	a.end(false)
	b.say("b2 ")
	b.end(false)
	c.say("c2 ")
	late.end(true)
	c.say("c3 ")
	c.end(false)
	if got.String() != "a1 b1 b2 late " {
		t.Error(got.String())
	}
}

// TestReportIsBounded: what waits for its turn doesn't fill the memory.
func TestReportIsBounded(t *testing.T) {
	size, lines := 0, 0
	r := newReport(func(l brig.BuildLine) { size += len(l.Out); lines++ })
	a, b := r.open(0), r.open(1)
	r.begin()
	text := strings.Repeat("x", 1<<20)
	for range 64 {
		b.say("%s", text)
	}
	a.end(false)
	b.say("end")
	if size > maxHeld+2<<20 || lines < 10 {
		t.Errorf("%d bytes in %d lines", size, lines)
	}
}
