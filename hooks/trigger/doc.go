// Package trigger has a file for each of Dokku's triggers that the plugin listens to, named as the trigger, and files for what several of them
// share.
package trigger
