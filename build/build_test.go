package build

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

func owner(fi os.FileInfo) (int, int) {
	st := fi.Sys().(*syscall.Stat_t)
	return int(st.Uid), int(st.Gid)
}

var hexRE = regexp.MustCompile(`\b[0-9a-f]{12}\b`)

// plain hides what differs from build to build.
func plain(s string) string { return hexRE.ReplaceAllString(s, "HEX") }

// TestReport is what Debian's dockerd 20.10 prints for the same, but for the numbers in it.
func TestReport(t *testing.T) {
	w := newWorld(t)
	got := w.try(`ARG V=1
ARG B=bb
FROM $B AS one
ARG X=5
ENV A=1 B="two words"
WORKDIR /w
RUN echo hello
COPY a b /x/
HEALTHCHECK CMD true
HEALTHCHECK NONE
ONBUILD RUN echo trig
ONBUILD COPY a /trig
FROM one
COPY --from=one /x /y
FROM scratch
COPY --from=1 /y/a /q
`, map[string]string{"a": "a", "b": "b"}, func(r *brig.BuildRequest) {
		r.Tags, r.Labels = []string{"out:1", "out", "out:1"}, map[string]string{"z": "1", "y": "2"}
		r.Args = map[string]*string{"unk": nil, "V": nil}
	}).ok()
	want := `Step 1/18 : ARG V=1
Step 2/18 : ARG B=bb
Step 3/18 : FROM $B AS one
 ---> HEX
Step 4/18 : ARG X=5
 ---> Running in HEX
Removing intermediate container HEX
 ---> HEX
Step 5/18 : ENV A=1 B="two words"
 ---> Running in HEX
Removing intermediate container HEX
 ---> HEX
Step 6/18 : WORKDIR /w
 ---> Running in HEX
Removing intermediate container HEX
 ---> HEX
Step 7/18 : RUN echo hello
 ---> Running in HEX
hello
Removing intermediate container HEX
 ---> HEX
Step 8/18 : COPY a b /x/
 ---> HEX
Step 9/18 : HEALTHCHECK CMD true
 ---> Running in HEX
Removing intermediate container HEX
 ---> HEX
Step 10/18 : HEALTHCHECK NONE
Note: overriding previous HEALTHCHECK: [CMD-SHELL true]
 ---> Running in HEX
Removing intermediate container HEX
 ---> HEX
Step 11/18 : ONBUILD RUN echo trig
 ---> Running in HEX
Removing intermediate container HEX
 ---> HEX
Step 12/18 : ONBUILD COPY a /trig
 ---> Running in HEX
Removing intermediate container HEX
 ---> HEX
Step 13/18 : FROM one
# Executing 2 build triggers
 ---> Running in HEX
trig
Removing intermediate container HEX
 ---> HEX
Step 14/18 : COPY --from=one /x /y
 ---> HEX
Step 15/18 : FROM scratch
 ---> 
Step 16/18 : COPY --from=1 /y/a /q
 ---> HEX
Step 17/18 : LABEL y=2
 ---> Running in HEX
Removing intermediate container HEX
 ---> HEX
Step 18/18 : LABEL z=1
 ---> Running in HEX
Removing intermediate container HEX
 ---> HEX
[Warning] One or more build-args [unk] were not consumed
Successfully built HEX
Successfully tagged out:1
Successfully tagged out:latest
`
	if p := plain(got.text); p != want {
		t.Errorf("got:\n%s\nwant:\n%s", p, want)
	}
	var by []string
	for _, s := range got.image.Steps {
		by = append(by, s.By)
	}
	if h := strings.Join(by, "\n"); h != `/bin/sh -c #(nop) COPY file:`+strings.SplitN(strings.SplitN(h, "file:", 2)[1], " ", 2)[0]+` in /q 
/bin/sh -c #(nop)  LABEL y=2
/bin/sh -c #(nop)  LABEL z=1` {
		t.Errorf("history %q", h)
	}
}
