"""Links to files that live at Evernote, Dropbox, Google Drive and OneDrive.

Holds nothing yet. It will import neither `gateway` nor `keyservice`: previews are plaintext here, and
the gateway seals them.
"""
