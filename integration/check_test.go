package integration

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	own(t)
	check := func(wantCode int, want string, args ...string) string {
		t.Helper()
		out, code := brigOn(t, bed.server.Host, append([]string{"check"}, args...)...)
		if code != wantCode || !strings.Contains(out, want) {
			t.Errorf("brig check %v: exit code %d\n%s\nwant %d and %q", args, code, out, wantCode, want)
		}
		return out
	}
	ref := image("busybox")
	check(0, ref+" (linux/"+runtime.GOARCH+") on "+thisHost(t)+": will run", ref)
	out := check(0, "on freebsd/13.2/"+runtime.GOARCH+": will run", "--on", "freebsd/13.2", ref)
	for _, want := range []string{"/bin/busybox (linux/" + runtime.GOARCH + ", static): will run", "allow.mount: ", "in some of the programs that it is", "are those of FreeBSD 13.2-RELEASE: sys/"} {
		if !strings.Contains(out, want) {
			t.Errorf("brig check --on freebsd/13.2 says\n%s\nand not %q", out, want)
		}
	}
	other := "linux/" + foreign()
	out = check(1, ref+" will not run on "+other, "--on", other, "--json", ref)
	out, _, _ = strings.Cut(out, "\nbrig: ")
	var report struct {
		Host, Verdict string
		Reasons       []struct{ Verdict, What, Why string }
		Entry         []struct{ Path, Verdict string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Verdict != "will not" || report.Host != other || len(report.Reasons) == 0 || len(report.Entry) != 1 {
		t.Errorf("%v, %+v: %s", err, report, out)
	}
	check(1, "No such image: nosuch:latest", "nosuch")
	check(1, `host "plan9": its system is neither freebsd nor linux`, "--on", "plan9", ref)
	check(1, "does not match the specified platform ("+other+")", "--platform", other, ref)
	check(1, `"nonsense": unknown operating system or architecture`, "--platform", "nonsense", ref)
}

// What can be made wrong with an image by one more layer is seen without a start, and the start agrees.
func TestCheckAgreesWithStart(t *testing.T) {
	own(t)
	for _, c := range []struct {
		name, change string
		cmd          []string
		verdict, why string
	}{
		{"no command", "true", []string{"nosuch"}, "will not", "nosuch: the image starts it, and it isn't there"},
		{"script", `printf '#!/bin/sh\nexit 0\n' > /run.sh; chmod 755 /run.sh`, []string{"/run.sh"}, "will run", "it is a script (/bin/sh)"},
		{"script without its interpreter", `printf '#!/bin/nosuch\n' > /run.sh; chmod 755 /run.sh`, []string{"/run.sh"}, "will not", "/bin/nosuch: the image starts it"},
		{"not executable", `cp /bin/busybox /run; chmod 644 /run`, []string{"/run"}, "will not", "can't be executed"},
		{"link out of the root", `ln -s ../../../../bin/true /true`, []string{"/true"}, "will run", ""},
	} {
		id := made(t, ok(t, "create", image("busybox"), "sh", "-c", c.change))
		ok(t, "start", "-a", id)
		name := fresh("check")
		words, err := json.Marshal(c.cmd)
		if err != nil {
			t.Fatal(err)
		}
		ok(t, "commit", "-c", "CMD "+string(words), id, name)
		defer docker(t, "rmi", "-f", name)
		out, code := brigOn(t, bed.server.Host, "check", name)
		if !strings.Contains(out, ": "+c.verdict+"\n") || !strings.Contains(out, c.why) || (code != 0) != (c.verdict == "will not") {
			t.Errorf("%s: exit code %d\n%s\nwant %q and %q", c.name, code, out, c.verdict, c.why)
		}
		if r := docker(t, "run", "--rm", name); (r.Code == 0) != (c.verdict == "will run") {
			t.Errorf("%s: it is said that it %s, and docker run gives %s", c.name, c.verdict, r)
		}
	}
}

// A program for another system is told by its own header, whatever the image says.
func TestCheckForeignProgram(t *testing.T) {
	own(t)
	foreign := built(t, "hello", ".", []string{"GOOS=freebsd"}, "./internal/hello")
	id := made(t, ok(t, "create", image("busybox")))
	ok(t, "cp", foreign, id+":/main")
	name := fresh("check")
	ok(t, "commit", "-c", `CMD ["/main"]`, id, name)
	defer docker(t, "rmi", "-f", name)
	verdicts := map[string]string{"linux": "Linux runs no programs of freebsd", "freebsd/13.2": "/main (freebsd/" + runtime.GOARCH + ", static): will run"}
	verdicts[""] = verdicts["linux"]
	if runtime.GOOS == "freebsd" {
		verdicts[""] = verdicts["freebsd/13.2"]
	}
	for on, want := range verdicts {
		if out, _ := brigOn(t, bed.server.Host, "check", "--on", on, name); !strings.Contains(out, want) {
			t.Errorf("on %q:\n%s\nwant %q", on, out, want)
		}
	}
}
