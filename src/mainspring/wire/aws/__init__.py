"""What every AWS protocol shares: requests signed with Signature Version 4, and bodies in signed chunks."""
