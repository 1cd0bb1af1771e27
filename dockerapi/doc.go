// Package dockerapi speaks the Docker Engine API over HTTP. Handlers decode, validate, call the engine through the interfaces in
// backend.go, and encode; they hold no state. One table (routes.go) lists every endpoint.
package dockerapi
