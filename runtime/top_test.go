package runtime

import (
	"strings"
	"testing"
)

func TestPsWords(t *testing.T) {
	const named = "-axww -o user=UID -o pid=PID -o ppid=PPID -o pcpu=C -o start=STIME -o tt=TTY -o time=TIME -o args=CMD"
	for _, c := range []struct{ asked, linux, freebsd string }{
		{"", "-ef", named},
		{"-ef", "-ef", named},
		{"aux", "aux", "aux -axww"},
		{"-o pid,comm", "-o pid,comm", "-axww -o pid,comm"},
		{"-eo comm,pid,args", "-eo comm,pid,args", "-axww -o comm,pid,args"},
		{"-e -ocomm,pid", "-e -ocomm,pid", "-axww -ocomm,pid"},
		{"-efl", "-efl", "-axww -fl"},
		{"-o -e -e", "-o -e -e", "-axww -o -e"}, // a value is a value
		{"-eo", "-eo", "-axww -o"},
		{"--nosuch -e", "--nosuch -e", "-axww --nosuch -e"},
		{"-p 7 -e", "-p 7 -e", "-axww -p 7"},
	} {
		for goos, want := range map[string]string{"linux": c.linux, "freebsd": c.freebsd} {
			if got := strings.Join(psWords(goos, strings.Fields(c.asked)), " "); got != want {
				t.Errorf("%s, %q: %q, want %q", goos, c.asked, got, want)
			}
		}
	}
}
