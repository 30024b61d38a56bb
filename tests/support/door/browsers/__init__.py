"""The page of the HTTP door in browsers without a window: Chromium, Firefox, and WebKit's MiniBrowser."""
