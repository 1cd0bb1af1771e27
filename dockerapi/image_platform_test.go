package dockerapi

import (
	"net/url"
	"strings"
	"testing"
)

func TestPlatforms(t *testing.T) {
	d := newDaemon(t)
	d.images.images = shelfOfFour()
	for _, path := range []string{"/images/create?fromImage=a&tag=1&platform=", "/images/create?fromSrc=-&platform=", "/containers/create?platform="} {
		got := d.message(t, 400, "POST", path+"nonsense", map[string]any{"Image": "app:1"})
		if got != `"nonsense": unknown operating system or architecture: invalid argument` {
			t.Errorf("%s: %q", path, got)
		}
	}
	d.want(t, 200, "POST", "/images/create?fromImage=a&tag=1&platform=Linux%2Faarch64", nil)
	if got := d.images.pulled[0].Platform; got != "linux/arm64" {
		t.Errorf("pulled for %q", got)
	}
	d.message(t, 400, "POST", "/images/load?platform=linux", strings.NewReader("x"))
	d.want(t, 200, "POST", "/v1.47/images/load?platform=linux", strings.NewReader("x"))
	amd, arm := url.QueryEscape(`{"os":"linux","architecture":"amd64"}`), url.QueryEscape(`{"os":"linux","architecture":"arm64"}`)
	for _, c := range []struct{ method, path, words string }{
		{"GET", "/images/app:1/json?platform=", ""},
		{"GET", "/images/app:1/history?platform=", ""},
		{"GET", "/images/app:1/get?platform=", ""},
		{"GET", "/images/get?names=app:1&platform=", ""},
	} {
		d.want(t, 200, c.method, c.path+amd, nil)
		if got := d.message(t, 404, c.method, c.path+arm, nil); !strings.Contains(got, "was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)") {
			t.Errorf("%s: %q", c.path, got)
		}
		for _, bad := range []string{"linux/amd64", "{}"} {
			d.message(t, 400, c.method, c.path+url.QueryEscape(bad), nil)
		}
		d.want(t, 200, c.method, "/v1.45"+c.path+arm, nil) // before it was there
	}
}
