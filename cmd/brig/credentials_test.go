package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

func TestCredentials(t *testing.T) {
	bin := t.TempDir()
	helper := "#!/bin/sh\nread -r server\ncase $1$server in\n" +
		`getreg.org) echo '{"ServerURL":"reg.org","Username":"u","Secret":"from helper"}';;` + "\n" +
		`gethttps://index.docker.io/v1/) echo '{"Username":"<token>","Secret":"identity"}';;` + "\n" +
		`getjunk.org) echo junk;;` + "\n" + `getbroken.org) echo broken >&2; exit 1;;` + "\n" +
		"*) echo credentials not found in native keychain; exit 1;;\nesac\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	up := base64.StdEncoding.EncodeToString([]byte("u:p:q"))
	file := fmt.Sprintf(`{"auths":{"reg.org":{"auth":%q},"https://old.org/v1/":{"auth":%[1]q},"https://index.docker.io/v1/":{"auth":%[1]q},"id.org":{"identitytoken":"t"},
		"bad.org":{"auth":"?"},"noc.org":{"auth":"YQ=="}}`, up)
	want := brig.Auth{Username: "u", Password: "p:q"}
	for _, c := range []struct {
		name, config, registry string
		want                   brig.Auth
		err                    string
	}{
		{"auths", file + "}", "reg.org", want, ""},
		{"a URL", file + "}", "old.org", want, ""},
		{"Docker Hub", file + "}", "docker.io", want, ""},
		{"identity token", file + "}", "id.org", brig.Auth{IdentityToken: "t"}, ""},
		{"none", file + "}", "other.org", brig.Auth{}, ""},
		{"part of a name", file + "}", "eg.org", brig.Auth{}, ""},
		{"no base64", file + "}", "bad.org", brig.Auth{}, "USER:PASSWORD"},
		{"no colon", file + "}", "noc.org", brig.Auth{}, "USER:PASSWORD"},
		{"store", file + `,"credsStore":"test"}`, "reg.org", brig.Auth{Username: "u", Password: "from helper"}, ""},
		{"store without it", file + `,"credsStore":"test"}`, "old.org", want, ""},
		{"helper of one", file + `,"credHelpers":{"reg.org":"test"}}`, "reg.org", brig.Auth{Username: "u", Password: "from helper"}, ""},
		{"helper of another", file + `,"credHelpers":{"x.org":"test"}}`, "reg.org", want, ""},
		{"token of a helper", `{"credsStore":"test"}`, "docker.io", brig.Auth{IdentityToken: "identity"}, ""},
		{"junk of a helper", `{"credsStore":"test"}`, "junk.org", brig.Auth{}, "no login"},
		{"broken helper", `{"credsStore":"test"}`, "broken.org", brig.Auth{}, "broken"},
		{"missing helper", `{"credsStore":"nosuch"}`, "reg.org", brig.Auth{}, "docker-credential-nosuch"},
		{"path as helper", `{"credsStore":"../../x"}`, "reg.org", brig.Auth{}, "no name of a credential helper"},
		{"junk", `{`, "reg.org", brig.Auth{}, "config.json"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(c.config), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, p := range []credentials{{config: dir}, {}} {
			t.Setenv("DOCKER_CONFIG", dir)
			got, err := p.find(t.Context(), nil, c.registry)
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %+v, %v, want %+v, %q", c.name, got, err, c.want, c.err)
			}
		}
	}
	t.Setenv("DOCKER_CONFIG", "/nonexistent")
	if got, err := (&credentials{}).find(t.Context(), nil, "reg.org"); err != nil || got != (brig.Auth{}) {
		t.Errorf("no file: %v, %v", got, err)
	}
	if _, err := (&credentials{config: "/nonexistent"}).find(t.Context(), nil, "reg.org"); err == nil {
		t.Error("a directory that was named and isn't there is no error")
	}
	if got, err := (&credentials{username: "a", password: true}).find(t.Context(), strings.NewReader("b c\r\n"), "reg.org"); err != nil || got != (brig.Auth{Username: "a", Password: "b c"}) {
		t.Errorf("from standard input: %v, %v", got, err)
	}
}

func TestOutName(t *testing.T) {
	for _, c := range []struct {
		from, image, want string
		squash            bool
	}{
		{"docker://debian", "", "debian-latest.aci", true},
		{"docker://127.0.0.1:5000/a/b:1.2", "", "a-b-1.2.aci", true},
		{"docker://a/b@sha256:" + strings.Repeat("0", 64), "", "a-b.aci", true},
		{"docker-archive:/x/app.tar", "", "app.aci", true},
		{"docker-archive:/x/app.tar", "q/r:7", "q-r-7.aci", true},
		{"oci:/x/layout/", "", "layout.aci", true},
		{"docker://debian", "", ".", false},
	} {
		if got := outName(c.from, c.image, c.squash); got != c.want {
			t.Errorf("%s: %q, want %q", c.from, got, c.want)
		}
	}
}
