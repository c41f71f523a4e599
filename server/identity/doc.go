// Package identity says who somebody is by a token: a JWT (RFC 7519) that names
// a user, a role and the transactions it opens. It checks tokens against keys
// that may change while the server runs, and makes tokens for operators.
//
// It knows of no request and no connection: package server asks it, and closes
// what is no longer allowed. Time is an argument. Keys at an address are read
// by a goroutine of their own, which ends with its context.
//
// No error of this package holds a token, a part of one, or a key.
package identity
