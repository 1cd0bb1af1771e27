package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/host"
)

// hubServer is what docker's config.json calls Docker Hub.
const hubServer = "https://index.docker.io/v1/"

// maxPassword bounds a password on standard input, in bytes.
const maxPassword = 64 << 10

// credentials say with what to log in to a registry.
type credentials struct {
	config   string // docker's directory of config.json; "": $DOCKER_CONFIG, else ~/.docker
	username string
	password bool // it comes on standard input
}

func (c *credentials) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.config, "config", "", "`DIR` of docker's config.json, for its logins (default: $DOCKER_CONFIG, else ~/.docker)")
	cmd.Flags().StringVarP(&c.username, "username", "u", "", "log in to the registry as `NAME`, instead of what config.json says")
	cmd.Flags().BoolVar(&c.password, "password-stdin", false, "take the password from standard input")
	cmd.MarkFlagsRequiredTogether("username", "password-stdin")
}

// find returns the login for a registry's host; nothing if there is none.
func (c *credentials) find(ctx context.Context, in io.Reader, registry string) (brig.Auth, error) {
	if c.username != "" {
		b, err := io.ReadAll(io.LimitReader(in, maxPassword+1))
		if err != nil || len(b) > maxPassword {
			return brig.Auth{}, errors.Join(errors.New("read the password from standard input"), err)
		}
		return brig.Auth{Username: c.username, Password: strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")}, nil
	}
	dir := c.config
	if dir == "" {
		dir = os.Getenv("DOCKER_CONFIG")
	}
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return brig.Auth{}, nil // nobody's home, so nobody's logins
		}
		dir = filepath.Join(home, ".docker")
	}
	path := filepath.Join(dir, "config.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && c.config == "" {
		return brig.Auth{}, nil
	}
	if err != nil {
		return brig.Auth{}, err
	}
	var f dockerConfig
	if err := json.Unmarshal(b, &f); err != nil {
		return brig.Auth{}, fmt.Errorf("%s: %w", path, err)
	}
	auth, err := f.find(ctx, registry)
	if err != nil {
		err = fmt.Errorf("%s: the login for %s: %w", path, registry, err)
	}
	return auth, err
}

// dockerConfig is what docker's config.json says of logins.
type dockerConfig struct {
	Auths       map[string]dockerAuth
	CredsStore  string
	CredHelpers map[string]string
}

type dockerAuth struct{ Auth, IdentityToken, RegistryToken string }

// find asks the registry's own helper, else the store for all, else the file.
func (f *dockerConfig) find(ctx context.Context, registry string) (brig.Auth, error) {
	server := registry
	if registry == "docker.io" {
		server = hubServer
	}
	helper := f.CredsStore
	if h := f.CredHelpers[server]; h != "" {
		helper = h
	}
	if helper != "" {
		auth, err := askHelper(ctx, helper, server)
		if err != nil || auth != (brig.Auth{}) {
			return auth, err
		}
	}
	a, ok := f.Auths[server]
	for key, other := range f.Auths { // older files have URLs
		if !ok && hostOf(key) == hostOf(server) {
			a, ok = other, true
		}
	}
	return a.read()
}

// hostOf is the host of a key of auths.
func hostOf(key string) string {
	if u, err := url.Parse(key); err == nil && u.Host != "" {
		return u.Host
	}
	host, _, _ := strings.Cut(key, "/")
	return host
}

func (a dockerAuth) read() (brig.Auth, error) {
	out := brig.Auth{IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if a.Auth == "" {
		return out, nil
	}
	b, err := base64.StdEncoding.DecodeString(a.Auth)
	user, password, ok := strings.Cut(string(b), ":")
	if err != nil || !ok {
		return out, errors.New("auth is not the base64 of USER:PASSWORD")
	}
	out.Username, out.Password = user, strings.TrimRight(password, "\x00")
	return out, nil
}

var helperRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// askHelper runs docker-credential-NAME (docker-credential-helpers' protocol: the server on standard input, JSON on standard output).
func askHelper(ctx context.Context, name, server string) (brig.Auth, error) {
	if !helperRE.MatchString(name) {
		return brig.Auth{}, fmt.Errorf("%q is no name of a credential helper", name)
	}
	out, err := host.Command{Argv: []string{"docker-credential-" + name, "get"}, Stdin: strings.NewReader(server)}.Output(ctx)
	if err != nil && strings.Contains(string(out)+err.Error(), "credentials not found") {
		return brig.Auth{}, nil
	}
	if err != nil {
		return brig.Auth{}, err
	}
	var got struct{ Username, Secret string }
	if err := json.Unmarshal(out, &got); err != nil {
		return brig.Auth{}, fmt.Errorf("docker-credential-%s answers what is no login: %w", name, err)
	}
	if got.Username == "<token>" {
		return brig.Auth{IdentityToken: got.Secret}, nil
	}
	return brig.Auth{Username: got.Username, Password: got.Secret}, nil
}
